"""The version of Seaway, in this one place: the package's, the command's, the server's and the images'."""

VERSION = "0.2.0"
