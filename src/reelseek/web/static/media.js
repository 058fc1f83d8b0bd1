"use strict";
const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });

// Asks for a video until it can be played: a copy that is being prepared is answered 503 with Retry-After.
// `wanted` tells whether anybody still waits for it, `say` shows what the server says meanwhile. False: nobody waits.
async function whenPlayable(address, wanted, say) {
  while (wanted()) {
    const response = await fetch(address, { headers: { Range: "bytes=0-0" } });
    if (response.ok) { await response.body?.cancel(); return wanted(); }
    const reason = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get("Retry-After"));
    if (response.status !== 503 || !seconds) throw new Error(reason.detail || reason.title || `the server answers ${response.status}`);
    if (wanted()) say(reason.detail || "The server is busy…");
    await pause(seconds);
  }
  return false;
}

// A picture that is asked for again while the server is busy; `fail` is called when it is not to be had.
function picture(image, address, fail) {
  let tries = 0;
  image.addEventListener("error", () => {
    if (++tries > 4) fail();
    else setTimeout(() => { if (image.isConnected) image.src = `${address}&try=${tries}`; }, 1000 * tries * (1 + Math.random()));
  });
  image.src = address;
}
