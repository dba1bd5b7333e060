// The stream of events: opened again when it breaks, or when nothing came for too long.

const SILENCE_MS = 20_000; // four signs of life that did not come
const PAUSES_MS = [1_000, 2_000, 5_000, 10_000];

// tell: {snapshot(data), changes(data), link(up, why)}
export function listen(tell) {
  let source = null;
  let failures = 0;
  let watchdog = 0;

  function open() {
    source = new EventSource("events");
    source.addEventListener("snapshot", (event) => {
      failures = 0;
      alive();
      tell.link(true, "");
      tell.snapshot(JSON.parse(event.data));
    });
    source.addEventListener("changes", (event) => {
      alive();
      tell.changes(JSON.parse(event.data));
    });
    source.addEventListener("alive", alive);
    source.addEventListener("error", () => {
      tell.link(false, "the controller does not answer");
      if (source.readyState === EventSource.CLOSED) refused();
    });
  }

  function alive() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => again("nothing came for a while"), SILENCE_MS);
  }

  // The stream itself does not tell why; what else the controller serves does.
  async function refused() {
    again("the controller refuses");
    const answer = await fetch("cache?name=").catch(() => null);
    if (answer?.status === 503) tell.link(false, (await answer.text()).trim());
  }

  function again(why) {
    source.close();
    clearTimeout(watchdog);
    tell.link(false, why);
    setTimeout(open, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    failures += 1;
  }

  open();
}
