"""One-shot jobs of the operations image; each module has ``run()``, exit codes decide ``up``."""
