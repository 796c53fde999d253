"use strict";
// The page: gives the grid to the shader, and moves the camera. Nothing is loaded from elsewhere.

const KINDS = ["BOX", "NDC", "ALL"];
const PASSES = [[0, 0], [-0.25, -0.25], [0.25, 0.25], [-0.25, 0.25], [0.25, -0.25]];  // rays of a pixel at rest
const FLOOR = 200;          // pixels of the longer side: pictures in motion are no smaller
const MOVING = 30;          // milliseconds that a picture in motion may take
const MOST_RATIO = 2;       // pixels for each of the page's, on screens that have more

const canvas = document.querySelector("canvas");
const told = document.getElementById("told");
const scene = JSON.parse(document.getElementById("scene").textContent);

function tell(text) {
  told.textContent = text;
  told.hidden = !text;
}

// ---- drawing --------------------------------------------------------------------------------------------------------

class Painter {
  constructor(gl, grid) {
    this.gl = gl;
    gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
    const least = gl.getParameter(gl.MAX_3D_TEXTURE_SIZE);
    if (Math.max(grid.wide, ...grid.sizes) > least) throw new Error(`textures of ${grid.wide} are too large here`);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.volume(0, gl.RGBA8UI, grid.sizes, gl.RGBA_INTEGER, grid.blocks, gl.NEAREST);
    const wide = Array(3).fill(grid.wide);
    grid.atlas.forEach((bytes, i) => this.volume(1 + i, gl.RGBA8, wide, gl.RGBA, bytes, gl.LINEAR));
    const words = { KIND: KINDS.indexOf(scene.kind), BOX: 0, NDC: 1, ALL: 2, BLOCK: `${scene.block}.0`,
                    FEATURES: scene.table.length, HARMONICS: scene.table[0].length };
    const head = Object.entries(words).map(([name, value]) => `#define ${name} ${value}\n`).join("");
    const precision = ["float", "int", "sampler2D", "sampler3D", "usampler3D"].map((t) => `precision highp ${t};\n`);
    this.march = this.program(head + precision.join("") + document.getElementById("march").textContent);
    this.copy = this.program(`precision highp float; uniform sampler2D picture; uniform vec2 size; out vec4 colour;
      void main() { colour = vec4(texture(picture, gl_FragCoord.xy / size).rgb, 1.0); }`);
    this.fast = this.target();
    this.fine = this.target();
    gl.useProgram(this.march);
    const set = (name, kind, ...values) => gl[`uniform${kind}`](gl.getUniformLocation(this.march, name), ...values);
    ["blocks", "colours", "features", "more"].forEach((name, i) => set(name, "1i", i));
    for (const name of ["low", "counts", "middle", "background"]) set(name, "3fv", scene[name]);
    for (const name of ["cell", "halfSide", "stride"]) set(name, "1f", scene[name]);
    for (const name of ["ndc", "base", "opacity"]) set(name, "2fv", scene[name]);
    set("table", "3fv", scene.table.flat(2));
    this.set = set;
  }

  volume(unit, format, size, kind, bytes, filter) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_3D, gl.createTexture());
    gl.texImage3D(gl.TEXTURE_3D, 0, format, ...size, 0, kind, gl.UNSIGNED_BYTE, bytes);
    for (const name of ["MIN", "MAG"]) gl.texParameteri(gl.TEXTURE_3D, gl[`TEXTURE_${name}_FILTER`], filter);
    for (const axis of "STR") gl.texParameteri(gl.TEXTURE_3D, gl[`TEXTURE_WRAP_${axis}`], gl.CLAMP_TO_EDGE);
  }

  program(text) {
    const gl = this.gl, made = gl.createProgram();
    const corner = "void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0, 1); }";
    for (const [kind, source] of [[gl.VERTEX_SHADER, corner], [gl.FRAGMENT_SHADER, text]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, "#version 300 es\n" + source);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
        throw new Error(gl.getShaderInfoLog(shader));
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost())
      throw new Error(gl.getProgramInfoLog(made));
    return made;
  }

  target() {
    const gl = this.gl, made = { texture: gl.createTexture(), frame: gl.createFramebuffer(), size: [0, 0] };
    this.resize(made, [1, 1]);
    gl.bindFramebuffer(gl.FRAMEBUFFER, made.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, made.texture, 0);
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) {
      this.bytes = true;  // no half floats to draw on: bytes will do
      this.resize(made, [2, 2]);
    }
    return made;
  }

  resize(target, size) {
    const gl = this.gl;
    if (target.size[0] === size[0] && target.size[1] === size[1]) return;
    target.size = size;
    gl.activeTexture(gl.TEXTURE4);
    gl.bindTexture(gl.TEXTURE_2D, target.texture);
    const [format, kind] = this.bytes ? [gl.RGBA8, gl.UNSIGNED_BYTE] : [gl.RGBA16F, gl.HALF_FLOAT];
    gl.texImage2D(gl.TEXTURE_2D, 0, format, ...size, 0, gl.RGBA, kind, null);
    for (const name of ["MIN", "MAG"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}_FILTER`], gl.LINEAR);
    for (const axis of "ST") gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_WRAP_${axis}`], gl.CLAMP_TO_EDGE);
  }

  // Some rows of a picture; pass: which ray of each pixel. Waits until they are there. Returns the milliseconds.
  draw(target, camera, pass = 0, from = 0, rows = target.size[1]) {
    const gl = this.gl, [width, height] = target.size, start = performance.now();
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.viewport(0, 0, width, height);
    gl.useProgram(this.march);
    const scale = [width / camera.size[0], height / camera.size[1]];
    this.set("eye", "3fv", camera.eye);
    this.set("axes", "Matrix3fv", false, camera.axes);
    this.set("focal", "2fv", camera.focal.map((f, i) => f * scale[i]));
    this.set("centre", "2fv", camera.centre.map((c, i) => c * scale[i]));
    this.set("within", "2fv", PASSES[pass]);
    this.set("rows", "1f", height);
    this.set("near", "1f", camera.near);
    this.set("far", "1f", scene.kind === "ALL" ? scene.far : 1e9);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, height - from - rows, width, rows);
    gl.enable(gl.BLEND);
    gl.blendColor(0, 0, 0, pass > 1 ? 1 / pass : 1);  // the mean of passes 1 to PASSES.length; pass 0 is a first look
    gl.blendFunc(gl.CONSTANT_ALPHA, gl.ONE_MINUS_CONSTANT_ALPHA);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.BLEND);
    gl.disable(gl.SCISSOR_TEST);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, this.bytes ? gl.UNSIGNED_BYTE : gl.FLOAT, new (this.bytes ? Uint8Array : Float32Array)(4));
    return performance.now() - start;
  }

  show(source, target = null) {  // on the page, or on another target
    const gl = this.gl, size = target ? target.size : [canvas.width, canvas.height];
    gl.bindFramebuffer(gl.FRAMEBUFFER, target && target.frame);
    gl.viewport(0, 0, ...size);
    gl.useProgram(this.copy);
    gl.activeTexture(gl.TEXTURE4);
    gl.bindTexture(gl.TEXTURE_2D, source.texture);
    gl.uniform1i(gl.getUniformLocation(this.copy, "picture"), 4);
    gl.uniform2fv(gl.getUniformLocation(this.copy, "size"), size);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

// ---- the camera -----------------------------------------------------------------------------------------------------

const add = (a, b, k = 1) => a.map((v, i) => v + k * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((v) => v / (Math.hypot(...a) || 1));

class Orbit {  // a camera that looks at a target
  constructor() { this.home(); }

  home() {
    this.target = [...scene.start.target];
    this.away = add(scene.start.position, this.target, -1);
  }

  axes() {
    const back = unit(this.away), right = unit(cross(scene.up, back));
    return [right, cross(back, right), back];
  }

  turn(across, upwards) {  // radians
    const [right, , back] = this.axes(), distance = Math.hypot(...this.away);
    const now = Math.asin(Math.max(-1, Math.min(1, dot(back, scene.up)))), most = Math.PI / 2 - 0.02;
    const to = Math.max(-most, Math.min(most, now + upwards));
    const flat = unit(add(back, scene.up, -dot(back, scene.up)));
    const round = add(flat.map((v) => v * Math.cos(across)), right, -Math.sin(across));
    this.away = add(round.map((v) => v * Math.cos(to)), scene.up, Math.sin(to)).map((v) => v * distance);
  }

  move(right, up) {  // in shares of the distance from the target
    const axes = this.axes(), distance = Math.hypot(...this.away);
    this.target = add(add(this.target, axes[0], right * distance), axes[1], up * distance);
  }

  nearer(factor) {
    const distance = Math.hypot(...this.away), to = Math.max(1e-3 * scene.reach, Math.min(10 * scene.reach, distance * factor));
    this.away = this.away.map((v) => v * to / distance);
  }

  camera(size) {
    const focal = scene.start.focal * Math.min(size[1], size[0] / scene.start.aspect);  // all of the first view shows
    return {
      size, eye: add(this.target, this.away), axes: this.axes().flat(), focal: [focal, focal],
      centre: [size[0] / 2, size[1] / 2], near: Math.min(scene.near, 0.3 * Math.hypot(...this.away)),
    };
  }
}

function listen(orbit, moved) {
  const held = new Map();  // where each pressed pointer was
  const middle = () => [...held.values()].reduce((a, b) => add(a, b, 1 / held.size), [0, 0]);
  const spread = () => { const [a, b] = held.values(); return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 1; };
  const side = () => Math.min(canvas.clientWidth, canvas.clientHeight) || 1;
  const on = (name, act) => canvas.addEventListener(name, act, { passive: false });
  on("contextmenu", (e) => e.preventDefault());
  on("pointerdown", (e) => { held.set(e.pointerId, [e.clientX, e.clientY]); canvas.setPointerCapture(e.pointerId); });
  for (const name of ["pointerup", "pointercancel"]) on(name, (e) => held.delete(e.pointerId));
  on("pointermove", (e) => {
    if (!held.has(e.pointerId)) return;
    const before = middle(), apart = spread();
    held.set(e.pointerId, [e.clientX, e.clientY]);
    const way = add(middle(), before, -1).map((v) => v / side());
    if (held.size > 1 || e.shiftKey || (e.buttons & 6)) orbit.move(-way[0], way[1]);
    else orbit.turn(-4 * way[0], 4 * way[1]);
    if (held.size > 1) orbit.nearer(apart / Math.max(spread(), 1));
    moved();
  });
  on("wheel", (e) => { e.preventDefault(); orbit.nearer(Math.exp(Math.sign(e.deltaY) * Math.min(Math.abs(e.deltaY), 100) / 600)); moved(); });
  on("dblclick", () => { orbit.home(); moved(); });
  const keys = {
    arrowleft: () => orbit.turn(-0.08, 0), arrowright: () => orbit.turn(0.08, 0),
    arrowup: () => orbit.turn(0, 0.08), arrowdown: () => orbit.turn(0, -0.08),
    a: () => orbit.move(-0.04, 0), d: () => orbit.move(0.04, 0), w: () => orbit.move(0, 0.04), s: () => orbit.move(0, -0.04),
    "+": () => orbit.nearer(0.92), "=": () => orbit.nearer(0.92), "-": () => orbit.nearer(1 / 0.92),
    home: () => orbit.home(), r: () => orbit.home(),
  };
  window.addEventListener("keydown", (e) => {
    const act = keys[e.key.toLowerCase()];
    if (!act || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    act();
    moved();
  });
}

// ---- the loop -------------------------------------------------------------------------------------------------------

// Pictures in motion are as small as they must be to be fluid. At rest the picture sharpens, a few rows at a time.
class Loop {
  constructor(painter, orbit) {
    Object.assign(this, { painter, orbit, speed: 100, pass: 0, row: 0, moving: true, asked: false });  // pixels per ms
    new ResizeObserver(() => this.moved()).observe(canvas);
  }

  moved() {
    this.moving = true;
    this.ask();
  }

  ask() {
    if (!this.asked) requestAnimationFrame(() => { this.asked = false; this.next(); });
    this.asked = true;
  }

  next() {
    const ratio = Math.min(window.devicePixelRatio || 1, MOST_RATIO), painter = this.painter;
    const size = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(Math.round(n * ratio), 1));
    if (canvas.width !== size[0] || canvas.height !== size[1]) {  // what is drawn so far is of another size
      [canvas.width, canvas.height] = size;
      this.moving = true;
    }
    const camera = this.orbit.camera(size);
    if (this.moving) {
      const share = Math.sqrt(this.speed * MOVING / (size[0] * size[1])), least = FLOOR / Math.max(...size);
      const scale = Math.min(1, Math.max(share, least));
      painter.resize(painter.fast, size.map((n) => Math.max(Math.round(n * scale), 1)));
      this.measure(painter.fast.size[0] * painter.fast.size[1], painter.draw(painter.fast, camera));
      painter.show(painter.fast);
      Object.assign(this, { moving: false, pass: 0, row: 0 });
      return this.ask();
    }
    if (this.pass >= PASSES.length) return;
    if (this.pass === 0 && this.row === 0) {
      painter.resize(painter.fine, size);
      painter.show(painter.fast, painter.fine);
    }
    const rows = Math.min(Math.max(Math.round(this.speed * MOVING / size[0]), 8), size[1] - this.row);
    this.measure(rows * size[0], painter.draw(painter.fine, camera, this.pass, this.row, rows));
    painter.show(painter.fine);
    this.row += rows;
    if (this.row >= size[1]) { this.row = 0; this.pass++; }
    this.ask();
  }

  measure(pixels, time) {  // never far from before, so that one hitch changes little
    const found = pixels / Math.max(time, 0.1);
    this.speed = Math.max(Math.min(0.7 * this.speed + 0.3 * found, 3 * this.speed), this.speed / 3);
  }
}

async function main() {
  if (typeof DecompressionStream === "undefined") return tell("This browser is too old: it cannot unpack the scene.");
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" });
  if (!gl) return tell("This page needs WebGL 2. This browser has none, or it is switched off.");
  const painter = new Painter(gl, laidOut(await unpacked())), orbit = new Orbit(), loop = new Loop(painter, orbit);
  canvas.addEventListener("webglcontextlost", () => tell("The graphics card was reset: load the page again."));
  listen(orbit, () => loop.moved());
  // For scripts: the picture of any camera, as a data URL. axes: right, up and back; sizes in pixels.
  window.picture = (camera) => {
    painter.resize(painter.fine, camera.size);
    for (let pass = 1; pass < PASSES.length; pass++) painter.draw(painter.fine, camera, pass);
    [canvas.width, canvas.height] = camera.size;
    painter.show(painter.fine);
    const url = canvas.toDataURL("image/png");
    loop.moved();
    return url;
  };
  window.orbit = orbit;
  tell("");
  canvas.focus();
  loop.moved();
}

window.ready = main().then(() => true, (error) => { tell(`This scene cannot be shown: ${error.message}`); throw error; });
