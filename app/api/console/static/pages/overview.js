// How the service does: throughput, times, queues, workers, and what is wrong now.

import { useResource } from '../lib/api.js'
import { count, duration, percent } from '../lib/format.js'
import { go, part, route, to } from '../lib/router.js'
import { Badge, Curl, Empty, Page, Panel, Ready, Table, Time, html, now } from '../lib/ui.js'
import { Chart } from '../lib/chart.js'

export const SPANS = ['1h', '8h', '72h']
const ENDS = [['finished', 'Finished', 'good'], ['retried', 'Retried', 'warn'], ['failed', 'Failed', 'bad'], ['lost', 'Lost', 'lost'], ['stopped', 'Stopped', 'muted'], ['canceled', 'Canceled', 'faint']]
const LATE = 10 // seconds after which a run that did not come is late

export function useSpan() {
  const asked = route.value.query.get('from')
  return SPANS.includes(asked) ? asked : '1h'
}

export function Spans({ path }) {
  const span = useSpan()
  return html`<div class="segments" role="group" aria-label="Time shown">${SPANS.map((one) => html`<button aria-pressed=${one === span}
    onClick=${() => go(to(path, { ...Object.fromEntries(route.value.query), from: one === '1h' ? '' : one }), { replace: true })}>${one.replace('h', ' h')}</button>`)}</div>`
}

export const everyOf = (span) => ({ '1h': 5, '8h': 20, '72h': 60 })[span]

/** The charts of figures from /stats. */
export function Charts({ stats, throughput = true }) {
  const at = stats.points.map((point) => point.at)
  const times = (name) => ['p50', 'p95', 'p99'].map((rank, index) => ({
    name: rank, colour: ['accent', 'warn', 'bad'][index], values: stats.points.map((point) => point[name]?.[rank] ?? null).map((value) => (value === null ? null : Number(value))) }))
  const ends = ENDS.filter(([name], index) => index === 0 || name === 'failed' || stats.points.some((point) => point[name]))
  return html`<div class="charts">
    ${throughput && html`<${Chart} title=${`Ended attempts per ${duration(stats.step)}`} at=${at} stacked=${true}
      series=${ends.map(([name, label, colour]) => ({ name: label, colour, values: stats.points.map((point) => Number(point[name] ?? 0)) }))}/>`}
    <${Chart} title="Run time" at=${at} unit="s" series=${times('run')}/>
    <${Chart} title="Wait in the queue" at=${at} unit="s" series=${times('wait')}/></div>`
}

export const NoFigures = ({ error }) => html`<p class="muted">${error?.status === 404 ? 'This service keeps no figures.' : error ? error.message : 'Loading figures…'}</p>`

export function Tiles({ items }) {
  return html`<dl class="tiles">${items.map(([name, value, note, tone]) => html`<div class=${tone ?? ''}><dt>${name}</dt><dd>${value}</dd>${note && html`<dd class="note">${note}</dd>`}</div>`)}</dl>`
}

/** What is wrong now: {text, href, tone} each. */
function useTroubles(queues, workers) {
  const ready = useResource('/readyz', { every: 5, gap: 5 })
  const schedules = useResource('/schedules?limit=500', { every: 15, gap: 10 }).data?.schedules ?? []
  const holds = queues.some((queue) => queue.counts.scheduled)
  const held = useResource(holds ? '/jobs?status=scheduled&limit=50' : null, { every: 10, gap: 5 }).data?.jobs ?? []
  const found = []
  if (ready.error?.status === 503) found.push({ text: ready.error.message, tone: 'bad' })
  const report = ready.data ?? {}
  for (const [module, why] of Object.entries(report.broken ?? {})) found.push({ text: `Module ${module} cannot be imported: ${why}`, href: '/functions', tone: 'bad' })
  for (const [name, why] of Object.entries(report.rejected_functions ?? {})) found.push({ text: `Function ${name} is set aside: ${why}`, href: '/functions', tone: 'bad' })
  for (const [name, why] of Object.entries(report.rejected_schedules ?? {})) found.push({ text: `Schedule ${name} is set aside: ${why}`, href: '/schedules', tone: 'bad' })
  const served = new Set(workers.flatMap((worker) => worker.queues))
  for (const queue of queues) {
    if (queue.paused) found.push({ text: `Queue ${queue.name} is paused; ${count(queue.counts.queued)} wait`, href: '/queues', tone: 'warn' })
    for (const warning of queue.warnings ?? []) found.push({ text: warning, href: to('/jobs', { queue: queue.name, status: 'queued' }), tone: 'bad' })
    if (!queue.warnings && queue.counts.queued && workers.length && !served.has(queue.name)) found.push({ text: `${count(queue.counts.queued)} jobs in queue ${queue.name}, and no worker takes them`, href: '/workers', tone: 'bad' })
  }
  for (const warning of report.warnings ?? []) if (!found.some((one) => one.text === warning)) found.push({ text: warning, href: '/workers', tone: 'bad' })
  const breakers = new Map()
  for (const job of held) if (job.waiting_for?.reason === 'breaker') breakers.set(job.waiting_for.name, job)
  for (const [name, job] of breakers) found.push({ text: `The breaker of ${name} is open`, href: job.function ? `/functions/${part(job.function)}` : '/jobs?status=scheduled', tone: 'bad' })
  for (const schedule of schedules) {
    const due = schedule.next_runs[0]?.utc
    if (!schedule.paused && due && now.value - Date.parse(due) > LATE * 1000) found.push({ text: `Schedule ${schedule.name} is late: a run was due at ${due.replace('T', ' ')}`, href: `/schedules/${part(schedule.name)}`, tone: 'bad' })
    if (schedule.paused && schedule.reason && schedule.reason !== 'on request' && schedule.reason !== 'by its definition') found.push({ text: `Schedule ${schedule.name} is paused: ${schedule.reason}`, href: `/schedules/${part(schedule.name)}`, tone: 'warn' })
  }
  return { found, known: Boolean(ready.data || ready.error) }
}

function Troubles({ found, known }) {
  if (!known) return null
  if (!found.length) return html`<div class="calm"><${Badge} of="on">Nothing is wrong</${Badge}></div>`
  return html`<${Panel} title="Wrong now" side=${html`<span class="muted">${found.length}</span>`} flush=${true}><ul class="troubles">${found.slice(0, 50).map((one) => html`<li class=${one.tone}>
    <i aria-hidden="true"></i>${one.href ? html`<a href=${one.href}>${one.text}</a>` : html`<span>${one.text}</span>`}</li>`)}</ul></${Panel}>`
}

export function Overview() {
  const span = useSpan()
  const stats = useResource(`/stats?from=${span}`, { every: everyOf(span), gap: 5 })
  const queues = useResource('/queues', { every: 10 }), workers = useResource('/workers', { every: 10 })
  const troubles = useTroubles(queues.data?.queues ?? [], workers.data?.workers ?? [])
  const total = stats.data?.total
  const all = queues.data?.queues ?? [], hands = workers.data?.workers ?? []
  const sum = (name) => all.reduce((found, queue) => found + queue.counts[name], 0)
  const busy = hands.reduce((found, worker) => found + worker.current_jobs.length, 0)
  const ended = total ? total.finished + total.failed : 0
  return html`<${Page} title="Overview" actions=${html`<${Spans} path="/"/>`}>
    <${Troubles} ...${troubles}/>
    <${Tiles} items=${[
      ['Waiting', count(sum('queued')), `${count(sum('scheduled'))} delayed, ${count(sum('deferred'))} deferred`],
      ['Running', count(busy), `${count(hands.length)} ${hands.length === 1 ? 'worker' : 'workers'}`],
      ['Ended', total ? count(ended) : '–', total ? `${count(total.retried)} retried` : 'no figures yet'],
      ['Failure rate', total ? percent(total.failed, ended) : '–', total ? `${count(total.failed)} failed` : `${count(sum('failed'))} failed jobs are kept`, total?.failed ? 'bad' : ''],
      ['Wait, p95', duration(total?.wait?.p95 ?? null), total?.wait ? `p50 ${duration(total.wait.p50)}` : null],
      ['Run, p95', duration(total?.run?.p95 ?? null), total?.run ? `p50 ${duration(total.run.p50)}` : null],
    ]}/>
    ${stats.data ? html`<${Panel}><${Charts} stats=${stats.data}/></${Panel}>` : html`<${NoFigures} error=${stats.error}/>`}
    <div class="columns">
      <${Panel} title="Queues" side=${html`<a href="/queues">All</a>`} flush=${true}><${Ready} of=${queues}>${() => html`<${QueueTable} queues=${all}/>`}</${Ready}></${Panel}>
      <${Panel} title="Workers" side=${html`<a href="/workers">All</a>`} flush=${true}><${Ready} of=${workers}>${() => html`<${WorkerTable} workers=${hands}/>`}</${Ready}></${Panel}>
    </div></${Page}>`
}

const QueueTable = ({ queues }) => html`<${Table} label="Queues" rows=${queues} keyOf=${(queue) => queue.name}
  empty=${html`<${Empty} title="There is no queue yet."><p>A queue comes into being with its first job:</p><${Curl}/></${Empty}>`}
  columns=${[
    { name: 'Queue', cell: (queue) => html`<a href=${to('/jobs', { queue: queue.name })}>${queue.name}</a> ${queue.paused ? html`<${Badge} of="paused"/>` : null}` },
    { name: 'Waiting', number: true, cell: (queue) => count(queue.counts.queued) },
    { name: 'Running', number: true, cell: (queue) => count(queue.counts.started) },
    { name: 'Oldest waits', number: true, cell: (queue) => html`<${Oldest} queue=${queue}/>` },
    { name: 'Failed', number: true, cell: (queue) => (queue.counts.failed ? html`<a href=${to('/jobs', { queue: queue.name, status: 'failed' })}>${count(queue.counts.failed)}</a>` : '0') },
  ]}/>`

/** How long the next job of a queue has waited. */
export function Oldest({ queue }) {
  const at = queue.oldest_enqueued_at
  if (!at) return html`<span class="faint">–</span>`
  return html`<span title=${at}>${duration(Math.max(0, Math.round((now.value - Date.parse(at)) / 1000)))}</span>`
}

const WorkerTable = ({ workers }) => html`<${Table} label="Workers" rows=${workers.slice(0, 20)} keyOf=${(worker) => worker.name}
  empty=${html`<${Empty} title="No worker runs."><p>Start one:</p><pre class="code">rq worker -w app.worker.Worker -c app.worker_config</pre></${Empty}>`}
  columns=${[
    { name: 'Worker', cell: (worker) => html`<a class="mono" href=${`/workers/${part(worker.name)}`}>${worker.name.slice(0, 12)}</a>` },
    { name: 'State', cell: (worker) => html`<${Badge} of=${worker.state}/>` },
    { name: 'Jobs', number: true, cell: (worker) => count(worker.current_jobs.length) },
    { name: 'Seen', cell: (worker) => html`<${Time} at=${worker.last_heartbeat} relative=${true}/>` },
  ]}/>`
