// The stream of snapshots: asked for with fetch, because an EventSource can't send a token, and again and again.

/** Milliseconds without a word after which a stream is dead: one snapshot comes each second. */
const SILENCE = 5000;

/** Milliseconds. */
const RETRY = 1000;

/** Characters of one event. A server sends at most 16 KiB. */
const LONGEST = 1 << 20;

const WRONG = "This token is not the right one.";

/** Takes a stream's text in pieces and gives the data of each event. */
export function events(onData) {
  let rest = "";
  return (text) => {
    rest += text;
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const data = rest.slice(0, end).split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) onData(data.join("\n"));
    }
    if (rest.length > LONGEST) throw new Error("an event without an end");
  };
}

/**
 * Follows the snapshots at an address for ever. `onSnapshot` gets each, `onState` what becomes of the connection: `connecting`, `live`, `lost`
 * with a reason, or `token`, after which nothing is asked until `enter` brings one.
 */
export function follow(url, { onSnapshot, onState }) {
  let token = null;
  let isProven = false;

  async function attempt() {
    const controller = new AbortController();
    let timer = 0;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(new Error(`nothing came for ${SILENCE / 1000} seconds`)), SILENCE);
    };
    try {
      heard();
      const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
      const response = await fetch(url, { headers, cache: "no-store", redirect: "error", signal: controller.signal });
      if (response.status === 401 || (response.status === 429 && !isProven)) {
        // Never twice with a token that may be wrong: the server counts that, and answers slowly.
        onState({ is: "token", wrong: response.status === 429 ? "Too many wrong tokens were tried. Try again in a minute." : token === null ? "" : WRONG });
        token = null;
        return false;
      }
      if (!response.ok) throw new Error(response.status === 503 ? "as many pages as may be are open" : `the server answers ${response.status}`);
      isProven = true;
      onState({ is: "live" });
      const take = events((data) => {
        try {
          onSnapshot(JSON.parse(data));
        } catch (error) {
          throw new Error(`what came is no snapshot: ${error.message}`);
        }
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece; !(piece = await reader.read()).done;) {
        heard();
        take(piece.value);
      }
      throw new Error("the server has ended the stream");
    } catch (error) {
      // Browsers have no words of use for a server that is not there.
      onState({ is: "lost", why: error instanceof TypeError ? "no connection" : error.message });
      return true;
    } finally {
      clearTimeout(timer);
      controller.abort();
    }
  }

  async function run() {
    while (await attempt()) await new Promise((resolve) => setTimeout(resolve, RETRY));
  }

  onState({ is: "connecting" });
  run();
  return {
    /** Asks with this token. Call it in the state `token` only. */
    enter(given) {
      // What no header can have is no token.
      if (!/^[!-~]+$/.test(given)) return onState({ is: "token", wrong: WRONG });
      [token, isProven] = [given, false];
      onState({ is: "connecting" });
      run();
    },
  };
}
