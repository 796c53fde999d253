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

// For each symbol that occurs in a context, as often as it does among 2^bits: the symbols, shares and starts.
function tablesOf(frequencies, bits) {
  const symbols = new Uint8Array((frequencies.length / 256) << bits), starts = new Uint16Array(frequencies.length);
  for (let context = 0; context < frequencies.length / 256; context++)
    for (let s = 0, sum = 0; s < 256; s++) {
      const share = frequencies[256 * context + s];
      starts[256 * context + s] = sum;
      if (share) symbols.fill(s, (context << bits) + sum, (context << bits) + sum + share);
      sum += share;
    }
  return { symbols, starts };
}

function buckets(ends, lowest, size) {  // of each number from `lowest` on: how many ends are below
  return Uint8Array.from({ length: size }, (_, i) => ends.filter((end) => i + lowest > end).length);
}

// The levels of all points, all channels of one after the other; see coding.py.
function decoded(before, frequencies, words) {
  const { bits, lowest, lane, spreads, alphas, signed, active, channels } = scene.coding;
  const count = scene.points, levels = new Uint8Array((count + 1) * channels), mask = (1 << bits) - 1;
  const { symbols, starts } = tablesOf(frequencies, bits);
  const spreadOf = buckets(spreads, 0, 256), alphaOf = buckets(alphas, 0, 256);
  const signedOf = buckets(signed, -256, 512), activeOf = buckets(active, 0, 256 * channels);
  const means = new Uint8Array(4 * 1024);  // of so many values with such a sum
  for (let n = 1; n < 4; n++) for (let sum = 0; sum < 1024; sum++) means[1024 * n + sum] = (2 * sum + n) / (2 * n) | 0;
  const firsts = spreads.length + 3, seconds = signed.length + 1, none = count * channels, last = new Uint8Array(channels);
  let state = 0, left = 0, word = 0;
  for (let row = 0, at = 0; row < count; row++) {
    const a = before[3 * row], b = before[3 * row + 1], c = before[3 * row + 2];
    const noA = a === count ? 255 : 0, noB = b === count ? 255 : 0, noC = c === count ? 255 : 0;
    const number = 3 - (noA + noB + noC) / 255;
    let residualBefore = 0, sizes = 0;  // the residual before, and the sum of sizes of some
    for (let k = 0; k < channels; k++, at++) {
      const p = levels[a * channels + k], q = levels[b * channels + k], r = levels[c * channels + k];
      const most = p > q ? (p > r ? p : r) : q > r ? q : r;
      const p1 = p | noA, q1 = q | noB, r1 = r | noC;
      const least = p1 < q1 ? (p1 < r1 ? p1 : r1) : q1 < r1 ? q1 : r1;
      const foretold = number ? means[1024 * number + p + q + r] : last[k];
      const first = number > 1 ? spreadOf[most - least] : spreads.length + 2 - number;
      const second = k > 3 ? activeOf[sizes] : k > 1 ? signedOf[residualBefore + 256] : k ? alphaOf[levels[at - 1]] : 0;
      const context = (k * firsts + first) * seconds + second;
      if (left === 0) {
        state = words[word] << 16 | words[word + 1];
        word += 2;
        left = lane;
      }
      left--;
      const place = state & mask, symbol = symbols[(context << bits) + place], key = 256 * context + symbol;
      state = Math.imul(frequencies[key], state >> bits) + place - starts[key];
      if (state < lowest) state = state << 16 | words[word++];
      const level = (k === 2 || k === 3 ? foretold + residualBefore + symbol : foretold + symbol) & 255;
      const residual = level - foretold, size = residual < 0 ? -residual : residual;
      levels[at] = last[k] = level;
      residualBefore = residual;
      if (k === 1 || k === 2) sizes += size;
      else if (k === 3) sizes >>= 1;
      else if (k === 4) sizes = size;
      else if (k > 4) sizes += size;
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
