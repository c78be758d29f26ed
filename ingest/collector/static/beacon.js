// Tells Braid's collector of this page's view, once it has loaded:
//   <script async src="http://localhost:8081/beacon.js" data-site="www.example.com"></script>
// It stores nothing and sends no visitor: the collector makes a pseudonym of the address, or none (Do Not Track).
(() => {
  const script = document.currentScript;
  const collector = new URL("/events", script.src).href;
  const known = (number) => (number >= 0 ? Math.round(number) : undefined);

  function view() {
    const load = performance.getEntriesByType("navigation")[0] || {};
    return {
      // The same at each attempt, so it counts once.
      event_id: "beacon-" + crypto.getRandomValues(new Uint32Array(4)).join("-"),
      event_time: new Date(performance.timeOrigin).toISOString(),
      site: script.dataset.site || location.hostname,
      page: (location.pathname + location.search).slice(0, 2048),
      status: load.responseStatus || 200,
      bytes_sent: known(load.encodedBodySize) || 0,
      duration_ms: known(load.responseEnd - load.requestStart),
      referrer: document.referrer.slice(0, 2048) || undefined,
      user_agent: navigator.userAgent.slice(0, 2048),
    };
  }

  async function send(body, attempts) {
    // Text needs no question beforehand (CORS), and `keepalive` goes on when the page is left.
    const request = { method: "POST", body, keepalive: true, credentials: "omit" };
    const answer = await fetch(collector, request).catch(() => null);
    if (attempts > 1 && (!answer || answer.status === 429 || answer.status === 503)) {
      const wait_s = Number(answer && answer.headers.get("Retry-After")) || 1;
      setTimeout(send, wait_s * 1000, body, attempts - 1);
    }
  }

  const start = () => setTimeout(() => send(JSON.stringify(view()), 5)); // behind `load`, when its times are known
  if (document.readyState === "complete") start();
  else addEventListener("load", start);
})();
