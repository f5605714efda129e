// The workers, by host, with what each runs.

import { useResource } from '../lib/api.js'
import { count, duration } from '../lib/format.js'
import { part, to } from '../lib/router.js'
import { Badge, Code, Empty, Facts, JobLink, Page, Panel, Ready, Table, Time, html, now } from '../lib/ui.js'
import { Unreadable } from './queues.js'
import { JobTable } from './jobs.js'

const SHOWN_JOBS = 5
const GIGABYTE = 2 ** 30

const hasUse = (worker) => worker.cpu_seconds !== undefined && worker.cpu_seconds !== null
const memory = (bytes) => (bytes === null || bytes === undefined ? '–' : bytes >= GIGABYTE ? `${(bytes / GIGABYTE).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`)

const samples = new Map() // by the name of a worker: its CPU time at its last heartbeat, and its share of a core before

/** The share of a core that a worker used between its last two heartbeats; at first, since its start. */
function share(worker) {
  if (!hasUse(worker)) return null
  const cpu = Number(worker.cpu_seconds), at = Date.parse(worker.last_heartbeat), last = samples.get(worker.name)
  if (last && at === last.at) return last.share
  const since = last ? [last.cpu, last.at] : [0, Date.parse(worker.birth)]
  const found = at > since[1] ? Math.max(0, (cpu - since[0]) / ((at - since[1]) / 1000)) : null
  samples.set(worker.name, { cpu, at, share: found })
  return found
}

const percentOf = (part) => (part === null || Number.isNaN(part) ? '–' : `${Math.round(100 * part)} %`)

export function Workers() {
  const found = useResource('/workers', { every: 5 })
  return html`<${Page} title="Workers"><${Ready} of=${found}>${({ workers, unreadable }) => {
    const hosts = Map.groupBy ? Map.groupBy(workers, (worker) => worker.hostname ?? 'unknown host') : groupBy(workers)
    return html`<${Unreadable} entries=${unreadable}/>
      ${!workers.length && html`<${Empty} title="No worker runs: jobs wait."><p>Start one with the same settings as this service:</p><${Code} text="rq worker -w app.worker.Worker -c app.worker_config"/></${Empty}>`}
      ${[...hosts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([host, members]) => html`<${Panel} key=${host} title=${host} flush=${true} side=${html`<span class="muted">${count(members.length)} ${members.length === 1 ? 'worker' : 'workers'}, ${count(members.reduce((sum, worker) => sum + worker.current_jobs.length, 0))} running</span>`}>
        <${Table} label=${`Workers on ${host}`} rows=${members} keyOf=${(worker) => worker.name} columns=${[
          { name: 'Worker', sort: (worker) => worker.name, cell: (worker) => html`<a class="mono" href=${`/workers/${part(worker.name)}`}>${worker.name}</a><p class="sub">process ${worker.pid}</p>` },
          { name: 'State', cell: (worker) => html`<${Badge} of=${worker.state}/>` },
          { name: 'Queues', class: 'wide', cell: (worker) => worker.queues.join(', ') },
          { name: 'Runs', class: 'wide', cell: (worker) => html`${worker.current_jobs.slice(0, SHOWN_JOBS).map((id) => html`<span class="line"><${JobLink} id=${id}/></span>`)}${worker.current_jobs.length > SHOWN_JOBS ? html`<span class="muted">and ${worker.current_jobs.length - SHOWN_JOBS} more</span>` : null}` },
          ...(members.some(hasUse) ? [{ name: 'CPU', number: true, sort: share, cell: (worker) => percentOf(share(worker)) }, { name: 'Memory', number: true, sort: (worker) => worker.rss_bytes, cell: (worker) => memory(worker.rss_bytes) }] : []),
          { name: 'Done', number: true, sort: (worker) => worker.successful_job_count, cell: (worker) => count(worker.successful_job_count) },
          { name: 'Failed', number: true, sort: (worker) => worker.failed_job_count, cell: (worker) => count(worker.failed_job_count) },
          { name: 'Worked', number: true, cell: (worker) => duration(Math.round(worker.total_working_time)) },
          { name: 'Seen', number: true, cell: (worker) => html`<${Time} at=${worker.last_heartbeat} relative=${true}/>` },
        ]}/></${Panel}>`)}`
  }}</${Ready}></${Page}>`
}

function groupBy(workers) {
  const found = new Map()
  for (const worker of workers) found.set(worker.hostname ?? 'unknown host', [...(found.get(worker.hostname ?? 'unknown host') ?? []), worker])
  return found
}

export function WorkerPage({ name }) {
  const found = useResource(`/workers/${part(name)}`, { every: 5 })
  return html`<${Page} kicker=${html`<a href="/workers">Workers</a>`} title=${name}>
    <${Ready} of=${found} missing=${html`<${Empty} title="This worker does not run any more."><p><a href="/workers">All workers</a></p></${Empty}>`}>${(worker) => html`<div class="columns wide-left">
      <${Panel} title="Running" flush=${true}>${worker.current_jobs.length ? html`<${Running} ids=${worker.current_jobs}/>` : html`<${Empty} title="It waits for a job."/>`}</${Panel}>
      <${Panel} title="About"><${Facts} items=${[['State', html`<${Badge} of=${worker.state}/>`], ['Host', worker.hostname], ['Process', String(worker.pid)], ['Queues', worker.queues.map((queue) => html`<a href=${to('/jobs', { queue })}>${queue}</a> `)],
        ['Started', worker.birth && html`<${Time} at=${worker.birth}/>`], ['Runs for', worker.birth && duration(Math.round((now.value - Date.parse(worker.birth)) / 1000))], ['Last seen', html`<${Time} at=${worker.last_heartbeat} relative=${true}/>`],
        ['Done', count(worker.successful_job_count)], ['Failed', count(worker.failed_job_count)], ['Worked', duration(worker.total_working_time)], ...(hasUse(worker) ? [['CPU', `${percentOf(share(worker))} of a core, ${duration(worker.cpu_seconds)} in all`], ['Memory', memory(worker.rss_bytes)]] : [])]}/></${Panel}></div>`}</${Ready}></${Page}>`
}

const Running = ({ ids }) => html`<div class="stack">${ids.slice(0, 20).map((id) => html`<${OneJob} key=${id} id=${id}/>`)}${ids.length > 20 ? html`<p class="muted pad">and ${count(ids.length - 20)} more</p>` : null}</div>`

function OneJob({ id }) {
  const job = useResource(`/jobs/${part(id)}`, { every: 5, live: (change) => change.ids?.includes(id) })
  return job.data ? html`<${JobTable} jobs=${[job.data]}/>` : html`<p class="pad"><${JobLink} id=${id}/></p>`
}
