"""Exits with 0 while the server in this container answers; run by its health check."""

import os
import urllib.request

ADDRESS = os.environ.get("REELSEEK_ADDRESS", "http://127.0.0.1:8000")
token = os.environ.get("REELSEEK_TOKEN", "")
request = urllib.request.Request(f"{ADDRESS}/healthz", headers={"Authorization": f"Bearer {token}"})
urllib.request.urlopen(request, timeout=4).close()
