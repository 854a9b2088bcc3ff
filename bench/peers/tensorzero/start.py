"""Runs TensorZero's gateway, which its wheel starts inside of a process, and prints its address."""

import signal
import sys

from openai import OpenAI
from tensorzero import patch_openai_client

client = patch_openai_client(OpenAI(api_key="none"), config_file=sys.argv[1], async_setup=False)
print(client.base_url, flush=True)
signal.pause()
