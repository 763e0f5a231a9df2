"""One file per group of commands: arguments in, one call into the package, a table out."""
