"""The list of what is simulated and measured here, a script a line."""

import ast
from pathlib import Path


def main() -> None:
    """Print each script with the first line of what it says of itself."""
    print("python benchmarks/NAME.py [--help]; what each says of itself in full: its first lines")
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"  {path.stem:22}{said.partition(chr(10))[0]}")


if __name__ == "__main__":
    main()
