// Records some seconds with the camera and puts them into the uploader beside it, as if a file had been chosen: so a
// recording meets the same limits as any file, in the browser and on the server.
const KINDS = ["video/webm;codecs=vp8", "video/webm;codecs=vp9", "video/webm", "video/mp4"];
const PICTURE = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "environment" };
const BITS = 2_500_000; // a second
const REFUSED = {
  NotAllowedError: "The browser does not lend this page the camera: allow it beside the address, then try again.",
  NotFoundError: "There is no camera: connect one and try again, or upload a file.",
  NotReadableError: "The camera gives no picture, maybe because another program uses it: close that one, then try again.",
  AbortError: "The camera did not start in time: try again, or upload a file.",
};

const kind = () => KINDS.find((name) => MediaRecorder.isTypeSupported(name));

// Why nothing can be recorded here, empty where it can.
function hindrance() {
  if (!window.isSecureContext)
    return "Browsers lend a camera only to pages at https:// or at localhost: open this page at such an address, or upload a file.";
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder || !kind())
    return "This browser cannot record video: use a current Chrome, Edge, Firefox or Safari, or upload a file.";
  return "";
}

function recorderOf(root) {
  const [preview, main, off, clock, said] = ["video", ".main", ".off", ".clock", ".said"].map((name) => root.querySelector(name));
  const self = { data: null, gone: false };
  let stream = null, recording = null, timer = null, asking = false;

  function draw() {
    preview.hidden = !stream;
    preview.classList.toggle("live", Boolean(recording));
    main.textContent = recording ? "Stop recording" : stream ? "Start recording" : "Turn the camera on";
    main.classList.toggle("live", Boolean(recording));
    off.hidden = !stream || Boolean(recording);
    clock.hidden = !recording;
  }

  self.release = () => {
    clearInterval(timer);
    stream?.getTracks().forEach((track) => track.stop());
    stream = recording = preview.srcObject = null;
    draw();
  };

  self.say = (text) => { said.textContent = text; };

  async function open() {
    self.say(hindrance());
    if (asking || said.textContent) return;
    asking = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: PICTURE });
      if (self.gone) return self.release();
      stream.getTracks()[0].onended = () => { if (!recording) { self.release(); self.say("The camera was taken away."); } };
      preview.srcObject = stream;
      draw();
    } catch (error) {
      self.say(REFUSED[error.name] ?? `The camera cannot be used (${error.name}): upload a file.`);
    } finally {
      asking = false;
    }
  }

  function record() {
    const chunks = [], began = performance.now();
    recording = new MediaRecorder(stream, { mimeType: kind(), videoBitsPerSecond: BITS });
    recording.ondataavailable = (event) => chunks.push(event.data);
    recording.onstop = () => { self.release(); if (!self.gone) hand(chunks); };
    const tick = () => {
      const seconds = (performance.now() - began) / 1000;
      clock.textContent = `${Math.floor(seconds)} s of at most ${self.data.seconds} s`;
      if (seconds >= self.data.seconds) stop();
    };
    recording.start(1000);
    timer = setInterval(tick, 100);
    tick();
    draw();
  }

  function stop() {
    if (recording.state === "recording") recording.stop();
  }

  function hand(chunks) {
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
    if (!bytes) return self.say("The camera gave no picture: try again, or upload a file.");
    if (bytes > self.data.megabytes * 1e6)
      return self.say(`The recording takes ${Math.ceil(bytes / 1e6)} MB, and at most ${self.data.megabytes} MB are taken: record a shorter one.`);
    const type = chunks[0].type.split(";")[0] || kind().split(";")[0];
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
    const files = new DataTransfer(), input = document.querySelector(`.st-key-${self.data.into} input[type=file]`);
    files.items.add(new File(chunks, `Camera ${time}.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type }));
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    self.say("Recorded: the uploader above sends it.");
  }

  main.onclick = () => (recording ? stop() : stream ? record() : open());
  off.onclick = () => { self.release(); main.focus(); };
  draw();
  return self;
}

export default function ({ data, parentElement }) {
  const recorder = parentElement.recorder ??= recorderOf(parentElement);
  if (recorder.data && recorder.data.into !== data.into) recorder.say(""); // what was sent has arrived
  recorder.data = data;
  return () => { recorder.gone = true; recorder.release(); delete parentElement.recorder; };
}
