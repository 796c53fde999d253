// One pixel of the scene: march its ray through the baked grid. Python has the same in march.py.
uniform usampler3D blocks;              // for each block: where its points lie in the atlas, and Grid.far
uniform sampler3D colours, features, more;  // the atlas; all but alpha, an opacity, is multiplied by alpha
uniform vec3 low, counts;               // of the lattice; see space.py
uniform float cell;
uniform vec3 middle;                    // of all of space
uniform float halfSide;
uniform vec2 ndc;
uniform vec3 eye;                       // the camera: where it is, its axes (right, up, back), and its pixels
uniform mat3 axes;
uniform vec2 focal, centre, within;     // in pixels from the top left; within: the ray's place in its pixel
uniform float rows, near, far, stride;  // stride: in cells
uniform vec3 background;
uniform vec2 opacity;                   // the logarithm of a cell's thickness is opacity.x + opacity.y * alpha
uniform vec2 base;                      // a diffuse colour is base.x + base.y * what the atlas holds
uniform vec3 table[FEATURES * HARMONICS];
out vec4 colour;

const float DIM = 1e-3;

#if KIND == ALL
float away(vec3 x) { vec3 p = abs(x - middle) / halfSide; return max(max(p.x, p.y), max(p.z, 1.0)); }
#endif

vec3 placed(vec3 x) {                   // in cells
#if KIND == ALL
  float m = away(x);
  x = (x - middle) / halfSide * ((2.0 - 1.0 / m) / m / 4.0) + 0.5;
#endif
  return (x - low) / cell;
}

float ahead(vec3 x, float blocksAway) { // how far the ray may go on
  float empty = max(blocksAway - 1.0, 0.0) * BLOCK;
#if KIND == ALL
  float m = away(x), one = stride * 4.0 * halfSide * cell * m / (2.0 - 1.0 / m);
  float way = 4.0 * cell * empty;
  return max(one, max(way, way * m / (2.0 + way)) * halfSide);
#else
  return stride * cell * max(floor(empty / stride), 1.0);
#endif
}

vec3 seenAlong(vec3 d, float[FEATURES] strength) { // sum_k f_k G_k(d); colours.py has the formula
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  float Y[HARMONICS] = float[](
    -0.48860251 * y, 0.48860251 * z, -0.48860251 * x,
    1.09254843 * x * y, -1.09254843 * y * z, 0.94617470 * zz - 0.31539157, -1.09254843 * x * z,
    0.54627422 * (xx - yy),
    0.59004359 * y * (yy - 3.0 * xx), 2.89061144 * x * y * z, 0.45704580 * y * (1.0 - 5.0 * zz),
    0.37317633 * z * (5.0 * zz - 3.0), 0.45704580 * x * (1.0 - 5.0 * zz), 1.44530572 * z * (xx - yy),
    0.59004359 * x * (3.0 * yy - xx));
  vec3 sum = vec3(0.0);
  for (int k = 0; k < FEATURES; k++)
    for (int j = 0; j < HARMONICS; j++) sum += strength[k] * Y[j] * table[k * HARMONICS + j];
  return sum;
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x, rows - gl_FragCoord.y) + within;
  vec3 seen = normalize(axes * vec3((pixel.x - centre.x) / focal.x, (centre.y - pixel.y) / focal.y, -1.0));
  vec3 start = eye, d = seen;
  float t = near, end = far;
#if KIND == NDC                         // cameras.ndc_rays
  float dz = min(d.z, -1e-3), to = -(1.0 + start.z) / dz;
  vec3 o = vec3(start.xy + to * d.xy, -1.0);
  start = vec3(ndc * o.xy, -1.0);
  d = vec3(-ndc * (d.xy / dz + o.xy), 2.0);
  end = length(d);
  d /= end;
  t = 0.0;
#endif
#if KIND != ALL
  vec3 inverse = 1.0 / mix(d, vec3(1e-9), lessThan(abs(d), vec3(1e-9)));
  vec3 a = (low - start) * inverse, b = (low + cell * counts - start) * inverse, first = min(a, b), last = max(a, b);
  t = max(t, max(first.x, max(first.y, first.z)));
  end = min(end, min(last.x, min(last.y, last.z)));
#endif
  float left = 1.0;
  vec3 sum = vec3(0.0);
  vec4 strength = vec4(0.0), others = vec4(0.0);
  ivec3 most = textureSize(blocks, 0) - 1;
  vec3 side = vec3(textureSize(colours, 0));
  for (int i = 0; i < 4096 && t < end && left > DIM; i++) {
    vec3 x = start + t * d, place = placed(x);
    ivec3 block = clamp(ivec3(place / BLOCK), ivec3(0), most);
    uvec4 found = texelFetch(blocks, block, 0);
    if (found.a == 0u) {
      vec3 at = (vec3(found.rgb) * (BLOCK + 1.0) + clamp(place - vec3(block) * BLOCK, 0.0, BLOCK) + 0.5) / side;
      vec4 here = texture(colours, at);
      if (here.a > 0.0) {
        float thickness = exp(opacity.x + opacity.y * here.a) - exp(opacity.x);  // opacity.py
        float alpha = 1.0 - exp(-stride * thickness), share = left * alpha / here.a;
        sum += share * here.rgb;
        strength += share * texture(features, at);
        others += share * texture(more, at);
        left *= 1.0 - alpha;
      }
    }
    t += ahead(x, float(found.a));
  }
  float all = 1.0 - left;
  strength = 2.0 * strength - all;
  others = 2.0 * others - all;
  float f[FEATURES] = float[](strength.x, strength.y, strength.z, strength.w, others.x, others.y, others.z, others.w);
  vec3 rgb = base.x * all + base.y * sum + seenAlong(seen, f);
  colour = vec4(clamp(rgb + left * background, 0.0, 1.0), 1.0);
}
