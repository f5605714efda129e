// Charts: lines and stacked bars by uPlot, sparklines and histograms as SVG. Each has its figures as a table.

import { useEffect, useRef, useState } from 'preact/hooks'
import { count, duration, short, tick } from './format.js'
import { html, Table, Time } from './ui.js'
import { theme } from './theme.js'

const { uPlot } = globalThis
const HEIGHT = 190
const STEPS = [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1].flatMap((size) => [size, 2 * size, 5 * size]).concat([10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400]) // of durations

function colour(name) {
  const probe = document.createElement('span')
  probe.style.color = `var(--${name})`
  document.body.append(probe)
  const found = getComputedStyle(probe).color
  probe.remove()
  return found
}

/** `series`: {name, colour, values}; `stacked`: bars on top of each other; `unit`: 's' or ''. */
export function Chart({ title, at, series, stacked = false, unit = '' }) {
  const ref = useRef(), plot = useRef(null)
  const [index, setIndex] = useState(null)
  const format = unit === 's' ? duration : short
  const x = at.map((time) => Date.parse(time) / 1000)
  const half = x.length > 1 ? (x[1] - x[0]) / 2 : 30
  const painted = stacked ? [...series].reverse() : series
  const drawn = stacked ? pile(series) : series.map((one) => one.values)
  const shape = series.map((one) => one.name).join() + theme.value + stacked + unit + half
  useEffect(() => {
    const options = {
      width: ref.current.clientWidth, height: HEIGHT, legend: { show: false }, padding: [10, 20, 0, 0],
      cursor: { y: false, points: { show: !stacked, size: 6 }, drag: { x: false, y: false } },
      scales: { x: { range: (_, low, high) => [low - half, high + half] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { stroke: colour('muted'), grid: { show: false }, ticks: { stroke: colour('line'), size: 4 }, font: '11px system-ui, sans-serif', size: 30,
          values: (_, splits) => splits.map((value) => new Date(value * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })) },
        { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif', size: 54, ...(unit === 's' ? { incrs: STEPS } : {}),
          values: (_, splits) => splits.map((value) => (unit === 's' ? tick(value) : short(value))) },
      ],
      series: [{}, ...painted.map((one, number) => stacked
        ? { stroke: colour(`fill-${one.colour}`), fill: colour(`fill-${one.colour}`), width: 0, paths: uPlot.paths.bars({ size: [0.8, 40] }), points: { show: false }, label: String(number) }
        : { stroke: colour(`fill-${one.colour}`), width: 1.5, points: { show: false }, spanGaps: false, label: String(number) })],
      hooks: { setCursor: [(self) => setIndex(self.cursor.idx ?? null)] },
    }
    plot.current = new uPlot(options, [x, ...drawn], ref.current)
    const resized = new ResizeObserver(() => plot.current.setSize({ width: ref.current.clientWidth, height: HEIGHT }))
    resized.observe(ref.current)
    return () => { resized.disconnect(); plot.current.destroy(); plot.current = null }
  }, [shape])
  useEffect(() => { plot.current?.setData([x, ...drawn]) })
  const point = index ?? at.length - 1
  return html`<figure class="chart">
    <figcaption><h2>${title}</h2><span class="legend">${at.length ? html`<${Time} at=${at[point]}/>` : null}${series.map((one) => html`<span><i class=${`dot f-${one.colour}`} aria-hidden="true"></i>${one.name}
      <b>${one.values[point] === null || one.values[point] === undefined ? '–' : format(one.values[point])}</b></span>`)}</span></figcaption>
    <div ref=${ref} class="plot" aria-hidden="true"></div>
    <${Figures} title=${title} at=${at} series=${series} format=${unit === 's' ? duration : count}/></figure>`
}

/** Each series on top of those before it; the highest first, so that the lower ones are painted over it. */
function pile(series) {
  const total = new Array(series[0]?.values.length ?? 0).fill(0)
  return series.map(({ values }) => values.map((value, index) => (total[index] += value))).reverse()
}

function Figures({ title, at, series, format }) {
  const [open, setOpen] = useState(false)
  const rows = open ? at.map((time, index) => ({ time, index })).reverse() : []
  const columns = [
    { name: 'Time', cell: (row) => html`<${Time} at=${row.time}/>` },
    ...series.map((one) => ({ name: one.name, number: true, cell: (row) => (one.values[row.index] === null ? '–' : format(one.values[row.index])) })),
  ]
  return html`<details class="figures" onToggle=${(event) => setOpen(event.target.open)}><summary>Figures</summary>
    ${open && html`<${Table} label=${`Figures of ${title}`} columns=${columns} rows=${rows}/>`}</details>`
}

export function Spark({ values, tone = 'accent', label }) {
  if (!values?.length) return html`<span class="faint">–</span>`
  const most = Math.max(...values, 1), width = 96, height = 20
  const step = width / Math.max(1, values.length)
  const bars = values.map((value, index) => {
    const size = value ? Math.max(1.5, (value / most) * height) : 0
    return size ? `M${(index * step).toFixed(1)} ${height}v-${size.toFixed(1)}h${Math.max(1, step - 0.6).toFixed(1)}v${size.toFixed(1)}z` : ''
  }).join('')
  const sum = values.reduce((total, value) => total + value, 0)
  return html`<svg class=${`spark f-${tone}`} width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="img"
    aria-label=${`${label}: ${count(sum)} in all, ${count(Math.max(...values))} at most in one step`}><path d=${bars || 'M0 0'}/><path class="base" d=${`M0 ${height - 0.5}h${width}`}/></svg>`
}

/** `bins`: [[upper bound in seconds, count], ...] */
export function Histogram({ title, bins }) {
  const filled = bins.filter(([, number]) => number)
  if (!filled.length) return null
  const first = bins.findIndex(([, number]) => number), last = bins.length - 1 - [...bins].reverse().findIndex(([, number]) => number)
  const kept = bins.slice(first, last + 1)
  const groups = kept.length > 60 ? merge(kept, Math.ceil(kept.length / 60)) : kept
  const most = Math.max(...groups.map(([, number]) => number)), width = 600, height = 130, step = width / groups.length
  const marks = [0, Math.floor((groups.length - 1) / 2), groups.length - 1].filter((at, index, all) => all.indexOf(at) === index)
  return html`<figure class="chart"><figcaption><h2>${title}</h2></figcaption>
    <svg class="histogram" viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label=${`${title}; the table below has the figures`}>
      ${groups.map(([bound, number], index) => html`<rect x=${index * step + 0.5} width=${Math.max(1, step - 1)} y=${height - (number / most) * height}
        height=${(number / most) * height}><title>up to ${duration(bound)}: ${count(number)}</title></rect>`)}</svg>
    <div class="histogram-axis">${marks.map((at) => html`<span>≤ ${duration(groups[at][0])}</span>`)}</div>
    <details class="figures"><summary>Figures</summary><${Table} label=${`Figures of ${title}`} rows=${filled} columns=${[
      { name: 'Up to', number: true, cell: ([bound]) => duration(bound) }, { name: 'Jobs', number: true, cell: ([, number]) => count(number) }]}/></details></figure>`
}

function merge(bins, size) {
  const merged = []
  for (let at = 0; at < bins.length; at += size) {
    const group = bins.slice(at, at + size)
    merged.push([group.at(-1)[0], group.reduce((sum, [, number]) => sum + number, 0)])
  }
  return merged
}
