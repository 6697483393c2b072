"""Everything that depends on the operating system, by subject. Seaway targets Linux and runs on any POSIX system with
uvloop: a missing feature is detected when it is used, and each function documents its fallback. Nothing outside this
package reads /proc, calls the C library, sets limits, or checks the system's name."""
