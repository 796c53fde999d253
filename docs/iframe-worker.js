// The search of the site, where pages are opened from the disk: browsers start no worker there, so its program runs in a
// frame that nobody sees. Messages that come before it is loaded wait.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inner = frame.contentWindow;
      inner.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      inner.importScripts = async (...files) => {
        for (const file of files) await run(inner, file);
      };
      this.loaded = run(inner, String(address)).then(() => inner);
    }

    postMessage(data) {
      this.loaded.then((inner) => inner.dispatchEvent(new inner.MessageEvent("message", { data })));
    }
  };
  window.Worker = window.IFrameWorker;
}

function run(inner, file) {
  return new Promise((done, failed) => {
    const script = inner.document.createElement("script");
    Object.assign(script, { src: file, onload: done, onerror: failed });
    inner.document.head.append(script);
  });
}
