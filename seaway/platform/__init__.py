"""What depends on the operating system, by subject. Seaway is made for Linux and runs on any POSIX system that has
uvloop: what such a system lacks is found when it is called for, and each function says what happens then. Nothing
outside this package reads /proc, calls the C library, sets limits, or asks for the system's name."""
