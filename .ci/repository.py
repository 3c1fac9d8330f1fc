"""Set the public address of the book: python .ci/repository.py https://github.com/owner/name

It is stored in _config.yml, and every notebook's set-up cell follows. With --check before it, the
address is compared with the stored one, and nothing is changed.
"""

import re
import sys

import notebooks

ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
USAGE = "Say which address: make repository URL=https://github.com/owner/name"


def main(arguments):
    """Set the address; the exit status is 0 if it is one."""
    if arguments[:1] == ["--check"]:
        return check(*arguments[1:])
    address = arguments[0].strip().rstrip("/").removesuffix(".git") if arguments else ""
    if not ADDRESS.fullmatch(address):
        print(f"{USAGE} (got {address!r})")
        return 2
    set_address(address)
    set_cells()
    print(f"The book's address is {address} now, in _config.yml and in every notebook.")
    print("Commit these files: Colab opens the notebooks as they are committed.")
    return 0


def check(address):
    """Compare the address of _config.yml with where the book is; the exit status is 0 if equal."""
    stored = notebooks.address()
    if stored.lower() == address.lower():
        return 0
    print(f"The address in _config.yml is {stored!r}, but this is {address}, so the buttons and")
    print("the set-up cells would lead elsewhere or nowhere. Run this once, and commit:")
    print(f"  make repository URL={address}")
    return 1


def set_address(address):
    """Write the address into _config.yml."""
    config = notebooks.CONFIG.read_text(encoding="utf-8")
    config = notebooks.ADDRESS.sub(f'  url: "{address}"', config, count=1)
    notebooks.CONFIG.write_text(config, encoding="utf-8", newline="\n")


def set_cells():
    """Give every notebook the set-up cell with the address of _config.yml."""
    for path in notebooks.paths():
        notebook = notebooks.read(path)
        first = notebook["cells"][0]
        if first["id"] != "setup":
            raise SystemExit(f'{path}: its first cell must be the set-up cell, with the id "setup"')
        first["source"] = notebooks.setup_source().splitlines(keepends=True)
        notebooks.write(path, notebook)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
