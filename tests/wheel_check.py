"""`make wheel-check`: build sdist and wheel, install into a fresh environment, run elsewhere.

The wheel must contain every YAML of conf/ and every file of the zoo. The installed command must run
without the checkout.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def call(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"wheel-check: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    tracked = call("git", "ls-files", "conf", "netinv_lightning").splitlines()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # Build the sdist, then the wheel from it.
        call(sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder)
        (wheel,) = folder.glob("*.whl")
        inside = set(zipfile.ZipFile(wheel).namelist())
        expected = {
            f"netinv_lightning/{path}" if path.startswith("conf/") else path for path in tracked
        }
        if missing := sorted(expected - inside):
            sys.exit(f"wheel-check: not in the wheel: {', '.join(missing)}")

        venv.create(folder / "fresh", with_pip=False)
        python = folder / "fresh" / "bin" / "python"
        call(
            Path(sys.executable).parent / "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--constraint",
            ROOT / "constraints.txt",
            wheel,
        )
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        output = call(
            folder / "fresh" / "bin" / "netinv",
            "+experiment=mnist_invert",
            "application.steps=20",
            "application.eval_samples=500",
            cwd=elsewhere,
        )
        run_dir = Path(output.splitlines()[-1])
        if not (run_dir / "summary.json").is_file() or elsewhere not in run_dir.parents:
            sys.exit(f"wheel-check: no summary in {run_dir}")
    print(f"wheel-check: {len(expected)} files in the wheel, installed and run elsewhere")


if __name__ == "__main__":
    main()
