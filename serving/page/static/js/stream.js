// What the server tells, as it tells it. A connection that is gone, or silent for too long, is made again, and again.

const SILENT_MS = 5_000;
const AGAIN_MS = 1_000;

export class Stream {
  // told(event, content); lost(reason) once a connection is gone, until something is told again.
  constructor(told, lost) {
    this.told = told;
    this.lost = lost;
    this.source = null;
    this.heardMs = 0;
    setInterval(() => {
      if (this.source && performance.now() - this.heardMs > SILENT_MS) this.again("it is silent");
    }, 1_000);
  }

  open({ site, range }) {
    clearTimeout(this.timer);
    this.source?.close();
    this.scope = { site, range };
    this.heardMs = performance.now();
    const source = new EventSource(`/stream?${new URLSearchParams({ site, range })}`);
    this.source = source;
    for (const event of ["scope", "part", "pulse"]) {
      source.addEventListener(event, (message) => {
        if (source !== this.source) return;
        this.heardMs = performance.now();
        this.told(event, JSON.parse(message.data));
      });
    }
    source.addEventListener("error", () => {
      if (source === this.source) this.again("it does not answer");
    });
  }

  again(reason) {
    this.source?.close();
    this.source = null;
    this.lost(reason);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(this.scope), AGAIN_MS);
  }
}
