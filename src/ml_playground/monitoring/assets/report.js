"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const sync = uPlot.sync("steps");
  const charts = [];

  function number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-2 || size >= 1e6)) return value.toExponential(2);
    return value.toLocaleString("en", {maximumSignificantDigits: 5});
  }

  function build(chart) {
    if (chart.plot) chart.plot.destroy();
    const width = chart.holder.clientWidth;
    // Named columns of equal length: the union of all steps, with gaps where a curve has no point.
    const joined = uPlot.join(chart.spec.curves.map(curve => [curve.steps, curve.values]));
    const axis = {
      stroke: color("--quiet"), grid: {stroke: color("--line"), width: 1}, ticks: {stroke: color("--line"), width: 1},
      font: "12px system-ui, sans-serif",
    };
    chart.plot = new uPlot({
      width, height: chart.spec.wide ? Math.max(240, Math.min(380, width * 0.5)) : 210,
      cursor: {sync: {key: sync.key}, drag: {x: true, y: false}},
      scales: {x: {time: false}, y: {distr: chart.log ? 3 : 1}},
      axes: [{...axis}, {...axis, size: 62, values: (_, ticks) => ticks.map(tick => tick === null ? "" : number(tick))}],
      series: [
        {label: "step", value: (_, value) => value === null ? "–" : value.toLocaleString("en")},
        ...chart.spec.curves.map(curve => ({
          label: curve.name, stroke: color(curve.color), width: curve.color === "--raw" ? 1 : 2, spanGaps: true,
          points: {show: curve.points && curve.steps.length < 100, size: 5, fill: color(curve.color)},
          value: (_, value) => number(value),
        })),
      ],
    }, joined, chart.holder);
  }

  for (const spec of data.charts) {
    const card = document.getElementById(spec.id);
    const chart = {spec, holder: card.querySelector(".plot"), log: false, plot: null};
    const box = card.querySelector("input");
    if (box) box.addEventListener("change", () => { chart.log = box.checked; build(chart); });
    charts.push(chart);
    build(chart);
    new ResizeObserver(() => {
      const width = chart.holder.clientWidth;
      if (width && width !== chart.plot.width) chart.plot.setSize({width, height: chart.plot.height});
    }).observe(chart.holder);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(build));

  const slider = document.getElementById("sample");
  if (slider) {
    const show = () => {
      const sample = data.samples[Number(slider.value)];
      document.getElementById("sample-step").textContent = "step " + sample.step.toLocaleString("en");
      const prompt = document.createElement("b");
      prompt.textContent = sample.prompt;
      document.getElementById("sample-text").replaceChildren(prompt, sample.text);
    };
    slider.addEventListener("input", show);
    show();
  }

  const filter = document.getElementById("filter");
  filter.hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of document.querySelectorAll("#settings tr")) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
})();
