// The grid, from the text of the page to textures. pack.py and coding.py write what is read here.

function bytesOf(text) {  // 7 bits in each character
  const bytes = new Uint8Array(Math.floor(text.length * 7 / 8));
  for (let i = 0, to = 0, held = 0, count = 0; to < bytes.length; i++) {
    held = (held << 7 | text.charCodeAt(i) & 127) & 0x7fff;
    count += 7;
    if (count >= 8) bytes[to++] = held >> (count -= 8);
  }
  return bytes;
}

async function unpacked() {
  const element = document.getElementById("grid"), bytes = bytesOf(element.textContent);
  element.remove();
  const start = 4 + new DataView(bytes.buffer).getUint32(0, true);
  const stream = new Blob([bytes.subarray(4, start)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const first = new Uint8Array(await new Response(stream).arrayBuffer());
  return { first, words: new Uint16Array(bytes.slice(start).buffer) };
}

// The textures. `blocks` has the place of each block's points in the atlas, and Grid.far. The atlas has, for each block
// that is not empty, its points and the first ones of the blocks that follow.
function laidOut({ first, words }) {
  const [nx, ny, nz] = scene.blocks, B = scene.block, volume = B ** 3, side = B + 1;
  const far = first.subarray(0, nx * ny * nz), masks = first.subarray(far.length, far.length + scene.full * volume / 8);
  const frequencies = new Uint16Array(first.slice(far.length + masks.length).buffer);
  const slots = new Int32Array(far.length).fill(-1);
  for (let i = 0, n = 0; i < far.length; i++) if (far[i] === 0) slots[i] = n++;
  const rows = rowsOf(masks, slots, [nx, ny, nz], volume);
  const layers = colourWords(decoded(rows.before, frequencies, words));
  const n = Math.max(Math.ceil(Math.cbrt(scene.full)), 1), wide = n * side;
  const points = [];  // of a block: which of the eight blocks has it, where it is there, and where it goes
  for (let c = 0; c < side; c++) for (let b = 0; b < side; b++) for (let a = 0; a < side; a++)
    points.push((a === B) + 2 * (b === B) + 4 * (c === B), a % B + B * (b % B + B * (c % B)), a + wide * (b + wide * c));
  const blocks = new Uint8Array(4 * far.length), owners = new Int32Array(8);
  const atlas = layers.map(() => new Uint32Array(wide ** 3));
  for (let z = 0, i = 0; z < nz; z++) for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++, i++) {
    const slot = slots[i], place = [slot % n, Math.floor(slot / n) % n, Math.floor(slot / (n * n))];
    blocks[4 * i + 3] = far[i];
    if (slot < 0) continue;
    blocks.set(place, 4 * i);
    for (let k = 0; k < 8; k++) {
      const inside = x + (k & 1) < nx && y + (k >> 1 & 1) < ny && z + (k >> 2) < nz;
      owners[k] = inside ? slots[i + (k & 1) + nx * ((k >> 1 & 1) + ny * (k >> 2))] : -1;
    }
    const corner = side * (place[0] + wide * (place[1] + wide * place[2]));
    for (let k = 0; k < points.length; k += 3) {
      const owner = owners[points[k]];
      if (owner < 0) continue;
      const row = rows.of[owner * volume + points[k + 1]], to = corner + points[k + 2];
      if (row < scene.points) for (let l = 0; l < layers.length; l++) atlas[l][to] = layers[l][row];
    }
  }
  return { blocks, sizes: [nx, ny, nz], wide, atlas: atlas.map((words) => new Uint8Array(words.buffer)) };
}

// of: the row of each point of each block that is not empty. before: the rows of the points before each kept one, along
// x, y and z. That of points that are not kept is scene.points.
function rowsOf(masks, slots, [nx, ny, nz], volume) {
  const none = scene.points, B = scene.block, of = new Int32Array(scene.full * volume + 1).fill(none);
  const before = new Int32Array(3 * none);
  for (let i = 0, row = 0; i < of.length - 1; i++) if (masks[i >> 3] >> (i & 7) & 1) of[i] = row++;
  for (let z = 0, i = 0; z < nz; z++) for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++, i++) {
    if (slots[i] < 0) continue;
    const here = slots[i] * volume, last = B - 1;
    const start = [x > 0 ? slots[i - 1] : -1, y > 0 ? slots[i - nx] : -1, z > 0 ? slots[i - nx * ny] : -1];
    for (let c = 0, k = here; c < B; c++) for (let b = 0; b < B; b++) for (let a = 0; a < B; a++, k++) {
      const row = of[k];
      if (row === none) continue;
      before[3 * row] = a ? of[k - 1] : start[0] < 0 ? none : of[start[0] * volume + k - here + last];
      before[3 * row + 1] = b ? of[k - B] : start[1] < 0 ? none : of[start[1] * volume + k - here + B * last];
      before[3 * row + 2] = c ? of[k - B * B] : start[2] < 0 ? none : of[start[2] * volume + k - here + B * B * last];
    }
  }
  return { of, before };
}

// The symbols that occur in each context, ascending. firsts: where those of each context begin in the others. starts:
// of the numbers below 2^bits that say each symbol; they end at the next one's. near: of every 2^COARSE-th number, by how
// many symbols its own is after the first.
const COARSE = 5;
function tablesOf(frequencies, bits) {
  const count = frequencies.length / 256, wide = 1 << bits - COARSE, firsts = new Int32Array(count);
  const size = frequencies.reduce((sum, share) => sum + (share > 0), 0) + count;
  const symbols = new Uint8Array(size), starts = new Uint16Array(size), near = new Uint8Array(count * wide);
  for (let context = 0, to = 0; context < count; context++) {
    firsts[context] = to;
    let sum = 0;
    for (let s = 0; s < 256; s++) {
      const share = frequencies[256 * context + s];
      if (!share) continue;
      const from = Math.ceil(sum / (1 << COARSE)), end = Math.ceil((sum + share) / (1 << COARSE));
      near.fill(to - firsts[context], context * wide + from, context * wide + end);
      symbols[to] = s;
      starts[to++] = sum;
      sum += share;
    }
    starts[to++] = sum;
  }
  return { firsts, symbols, starts, near, wide };
}

function buckets(ends, lowest, size) {  // of each number from `lowest` on: how many ends are below
  return Uint8Array.from({ length: size }, (_, i) => ends.filter((end) => i + lowest > end).length);
}

// The levels of all points, all channels of one after the other; see coding.py.
function decoded(before, frequencies, words) {
  const { bits, lowest, lane, spreads, alphas, signed, active, channels } = scene.coding;
  const count = scene.points, levels = new Uint8Array((count + 1) * channels), plain = new Uint8Array(count + 1);
  const { firsts, symbols, starts, near, wide } = tablesOf(frequencies, bits), mask = (1 << bits) - 1;
  const spreadOf = buckets(spreads, 0, 256), alphaOf = buckets(alphas, 0, 256);
  const signedOf = buckets(signed, -256, 512), activeOf = buckets(active, 0, 256 * channels);
  const means = new Uint8Array(4 * 1024);  // of so many values with such a sum
  for (let n = 1; n < 4; n++) for (let sum = 0; sum < 1024; sum++) means[1024 * n + sum] = (2 * sum + n) / (2 * n) | 0;
  const seconds = signed.length + 1, each = (spreads.length + 3) * seconds;
  let state = 0, left = 0, word = 0;
  function next(context) {
    if (left === 0) {
      state = words[word] << 16 | words[word + 1];
      word += 2;
      left = lane;
    }
    left--;
    const place = state & mask;
    let at = firsts[context] + near[context * wide + (place >> COARSE)], start = starts[at], end = starts[at + 1];
    while (end <= place) { at++; start = end; end = starts[at + 1]; }
    state = Math.imul(end - start, state >> bits) + place - start;
    if (state < lowest) state = state << 16 | words[word++];
    return symbols[at];
  }
  for (let row = 0; row < count; row++) {
    const a = before[3 * row], b = before[3 * row + 1], c = before[3 * row + 2];
    const noA = a === count ? 255 : 0, noB = b === count ? 255 : 0, noC = c === count ? 255 : 0;
    const number = (noA === 0) + (noB === 0) + (noC === 0), mean = 1024 * number, few = spreads.length + 2 - number;
    const here = row * channels, last = (row > 0 ? row - 1 : count) * channels;
    const pa = a * channels, pb = b * channels, pc = c * channels;
    let residual = 0, sizes = 0;  // of the channel before, and a sum of sizes of residuals
    for (let k = 0; k < channels; k++) {
      const p = levels[pa + k], q = levels[pb + k], r = levels[pc + k];
      const foretold = number ? means[mean + p + q + r] : levels[last + k];
      if (k === 1 && next(channels * each + (plain[a] + plain[b] + plain[c]) * seconds + number)) plain[row] = 1;
      if (k > 0 && plain[row]) {
        levels[here + k] = foretold;
        continue;
      }
      const spread = Math.max(p, q, r) - Math.min(p | noA, q | noB, r | noC);
      const first = number > 1 ? spreadOf[spread] : few;
      const second = k > 3 ? activeOf[sizes] : k > 1 ? signedOf[residual + 256] : k ? alphaOf[levels[here]] : 0;
      const symbol = next(k * each + first * seconds + second);
      const level = (k === 2 || k === 3 ? foretold + residual + symbol : foretold + symbol) & 255;
      levels[here + k] = level;
      residual = level - foretold;
      if (k === 3) sizes >>= 1;
      else if (k > 0) sizes = (k === 4 ? 0 : sizes) + Math.abs(residual);
    }
  }
  return levels;
}

// Colours and features of each point as the atlas has them: bytes that are multiplied by alpha.
function colourWords(levels) {
  const channels = scene.coding.channels, scale = scene.coding.levels.map((count) => 255 / (count - 1));
  const layers = Array.from({ length: channels / 4 }, () => new Uint32Array(scene.points));
  for (let row = 0, at = 0; row < scene.points; row++, at += channels) {
    const alpha = levels[at] * scale[0], share = alpha / 255;
    const byte = (k) => levels[at + k] * scale[k] * share + 0.5 | 0;
    layers[0][row] = byte(1) | byte(2) << 8 | byte(3) << 16 | alpha << 24;
    for (let l = 1, k = 4; l < layers.length; l++, k += 4)
      layers[l][row] = byte(k) | byte(k + 1) << 8 | byte(k + 2) << 16 | byte(k + 3) << 24;
  }
  return layers;
}
