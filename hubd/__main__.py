"""`python -m hubd` is `hubd`."""

from __future__ import annotations

from hubd.main import main

if __name__ == "__main__":
    main()
