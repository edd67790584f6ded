"""`fusion doctor`: looks at a deployment from this machine and says what to mend."""
