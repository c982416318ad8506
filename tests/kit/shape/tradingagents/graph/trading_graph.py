"""`TradingAgentsGraph` as the project has it. `config["behaviour"]` says what its `propagate` does.

What it was given is written to `given.json` in its results folder, so that a test can look.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


class GraphError(Exception):
    """What the project might raise."""


class Message:
    """As LangChain's messages: no JSON."""

    def __repr__(self) -> str:
        return "Message('hello')"


class TradingAgentsGraph:
    """The entry point of the project."""

    def __init__(self, selected_analysts=("market", "social", "news", "fundamentals"), debug=False, config=None):
        self.selected_analysts = selected_analysts
        self.config = config
        Path(config["results_dir"]).mkdir(parents=True, exist_ok=True)

    def propagate(self, company_name, trade_date):
        """Return (final_state, rating)."""
        return self._run(company_name, trade_date, None)

    def _run(self, company_name, trade_date, qlib_data):
        self._note(company_name, trade_date, qlib_data)
        behaviour = self.config["behaviour"]
        state = self._state(company_name, trade_date)
        if behaviour != "answer":
            changed = getattr(self, f"_{behaviour}")(state)
            if changed is not None:
                return changed
        return state, self.config["rating"]

    def _note(self, company_name, trade_date, qlib_data):
        given = {
            "ticker": company_name, "trade_date": trade_date, "qlib_data": qlib_data, "config": self.config,
            "analysts": self.selected_analysts, "environment": dict(os.environ), "path": sys.path,
            "stdin": sys.stdin.read(), "pid": os.getpid(), "cwd": str(Path.cwd()),
        }  # fmt: skip
        (Path(self.config["results_dir"]) / "given.json").write_text(json.dumps(given))

    def _state(self, company_name, trade_date):
        return {
            "messages": [Message()], "company_of_interest": company_name, "trade_date": trade_date,
            "market_report": "Momentum.", "investment_debate_state": {"history": "...", "nan": float("nan")},
            "final_trade_decision": self.config.get("decision", "**Rating**: " + str(self.config["rating"])),
        }  # fmt: skip

    # ── misbehaviour ────────────────────────────────────────────────────────

    def _prints(self, state):
        sys.stdout.write('{"signal": "Sell", "final_state": {}}\n')
        sys.stdout.flush()
        os.write(1, b'{"signal": "Sell", "final_state": {}}\n')
        subprocess.run(["/bin/sh", "-c", 'echo \'{"signal": "Sell"}\''], check=True)

    def _says_secrets(self, state):
        sys.stderr.write(f"key {os.environ.get('TEST_KEY')} {self.config.get('api_key')}\n" * 200)
        state["market_report"] = f"key {os.environ.get('TEST_KEY')}"

    def _says_a_long_line(self, state):
        """Let the secret stand across the 16,384th byte, where the bridge stops to keep a line."""
        sys.stderr.write("y" * 16_380 + os.environ["TEST_KEY"] + "z" * 100_000 + "\nafter it\n")

    def _says_much(self, state):
        for _ in range(2_000):
            sys.stderr.write("x" * 1_000 + "\n")
        sys.stderr.write("y" * 5_000_000)

    def _raises(self, state):
        raise GraphError("the model is away")

    def _exits(self, state):
        sys.exit(0)

    def _dies(self, state):
        os.kill(os.getpid(), signal.SIGSEGV)

    def _hangs(self, state):
        """Hang with a child and a grandchild, deaf to SIGTERM."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $! > grandchild.pid; wait"])
        while not Path("grandchild.pid").exists() or not Path("grandchild.pid").read_text().strip():
            time.sleep(0.01)
        Path("hangs.pid").write_text(str(os.getpid()))
        time.sleep(600)

    def _leaves_threads(self, state):
        threading.Thread(target=time.sleep, args=(600,)).start()

    def _is_huge(self, state):
        state |= {f"part {n}": [["z" * 4_000] * 40] * 2 for n in range(30)}

    def _is_long(self, state):
        state |= dict.fromkeys(("market_report", "news_report", "investment_plan", "other"), "word " * 700)
        state |= {f"part {n}": "z" * 4_000 for n in range(10)}

    def _returns_three(self, state):
        return state, "Buy", 3

    def _returns_text(self, state):
        return "Buy"

    def _returns_no_state(self, state):
        return None, "Buy"

    def _returns_a_number(self, state):
        return state, 5

    def _returns_surrogates(self, state):
        state["market_report"] = "\ud800"

    def _writes_to_the_answer(self, state):
        """Find the descriptor of the answer and write rubbish to it."""
        for descriptor in range(3, 20):
            try:
                os.write(descriptor, b"rubbish\n")
            except OSError:
                continue


class WithFigures(TradingAgentsGraph):
    """The same, with a `propagate` that takes the scanner's figures."""

    def propagate(self, company_name, trade_date, qlib_data=None):
        """Return (final_state, rating)."""
        return self._run(company_name, trade_date, qlib_data)


if (Path(__file__).parent / "takes_figures").exists():
    TradingAgentsGraph = WithFigures
