// Films and pictures that the server may still be preparing.

const pause = (/** @type {number} */ seconds) =>
  new Promise((resolve) => {
    setTimeout(resolve, 1000 * seconds);
  });

/**
 * Ask for a video until it can be played: a copy that is being prepared is answered 503 with Retry-After.
 * @param {string} address
 * @param {() => boolean} waiting whether anybody still waits for it
 * @param {(reason: string) => void} report shows what the server says meanwhile
 * @returns {Promise<boolean>} false: nobody waits any more
 */
export async function whenPlayable(address, waiting, report) {
  while (waiting()) {
    const response = await fetch(address, { headers: { Range: "bytes=0-0" } });
    if (response.ok) {
      await response.body?.cancel();
      return waiting();
    }
    const problem = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get("Retry-After"));
    if (response.status !== 503 || !seconds)
      throw new Error(problem.detail || problem.title || `the server answers ${response.status}`);
    if (waiting()) report(problem.detail || "The server is busy…");
    await pause(seconds);
  }
  return false;
}

/**
 * Load a picture, again while the server is busy.
 * @param {HTMLImageElement} image @param {string} address @param {() => void} fail called when it is not to be had
 */
export function picture(image, address, fail) {
  let tries = 0;
  image.classList.add("coming"); // browsers draw a broken picture for one that failed, even if it is tried again
  image.addEventListener("load", () => image.classList.remove("coming"));
  image.addEventListener("error", async () => {
    const status = await fetch(image.src).then(
      (answer) => answer.status,
      () => 503,
    );
    if (++tries > 4 || status < 429)
      fail(); // there is none, and asking again would change nothing
    else
      setTimeout(
        () => {
          if (image.isConnected) image.src = `${address}${address.includes("?") ? "&" : "?"}try=${tries}`;
        },
        1000 * tries * (1 + Math.random()),
      );
  });
  image.src = address;
}
