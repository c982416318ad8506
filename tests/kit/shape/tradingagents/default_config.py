"""The project's defaults, as far as the shape needs them."""

import os

DEFAULT_CONFIG = {
    "results_dir": os.getenv("TRADINGAGENTS_RESULTS_DIR", "./results"),
    "data_cache_dir": "/nowhere",
    "llm_provider": "openai",
    "behaviour": "answer",
    "rating": "Buy",
}
