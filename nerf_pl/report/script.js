"use strict";

// the divider between a rendered picture and the scene's own follows the pointer and the arrow keys
for (const input of document.querySelectorAll(".pair input")) {
  const move = () => input.parentElement.style.setProperty("--at", input.value + "%");
  input.addEventListener("input", move);
  move(); // a browser may have kept the value over a reload
}

// one slider turns a mesh: a picture for each step
for (const turn of document.querySelectorAll(".turn")) {
  const input = turn.querySelector("input");
  const pictures = turn.querySelectorAll("img");
  const show = () => pictures.forEach((picture, i) => { picture.hidden = i !== Number(input.value); });
  input.addEventListener("input", show);
  show();
}

// the values of a chart's lines where the pointer is
for (const chart of document.querySelectorAll("svg[data-lines]")) {
  const lines = JSON.parse(chart.dataset.lines);
  const cursor = chart.querySelector(".cursor");
  const read = chart.parentElement.querySelector(".read");
  const nearest = (line, x) => {
    let best = 0;
    line.at.forEach((at, i) => { if (Math.abs(at - x) < Math.abs(line.at[best] - x)) best = i; });
    return best;
  };
  chart.addEventListener("pointermove", (event) => {
    const frame = chart.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width * chart.viewBox.baseVal.width;
    const main = lines.reduce((a, b) => (b.at.length > a.at.length ? b : a));
    const at = main.at[nearest(main, x)];
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.style.visibility = "visible";
    const told = lines.map((line) => (lines.length > 1 ? line.name + " " : "") + line.y[nearest(line, at)]);
    read.textContent = told.join(", ") + (read.dataset.unit ? " " + read.dataset.unit : "") +
      " at " + main.x[nearest(main, at)];
  });
  chart.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    read.textContent = read.dataset.unit;
  });
}
