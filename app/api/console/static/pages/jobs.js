// The list of jobs, with a search box, pages, and changes of all that match.

import { may, useResource } from '../lib/api.js'
import { duration, seconds } from '../lib/format.js'
import { stringify } from '../lib/json.js'
import { go, route, to } from '../lib/router.js'
import { Badge, Curl, Empty, FunctionLink, JobLink, Page, Panel, Ready, Table, Time, html } from '../lib/ui.js'
import { openBulk } from '../lib/bulk.js'
import { QUALIFIERS, STATUSES, SearchBox, asParameters, readQuery, writeQuery } from '../lib/query.js'

const SIZES = ['50', '200', '500']

export function Jobs() {
  const { query } = route.value
  const filter = Object.fromEntries([...QUALIFIERS, 'q'].map((name) => [name, query.get(name)]).filter(([, value]) => value))
  const cursor = query.get('cursor'), limit = SIZES.includes(query.get('limit')) ? query.get('limit') : '50'
  const narrow = Object.keys(filter).some((name) => name !== 'status' && name !== 'queue') // jobs are read to find those that match
  const jobs = useResource(to('/jobs', { ...asParameters(filter), limit, cursor }), { every: cursor ? 60 : narrow ? 20 : 10, gap: narrow ? 3 : 1, live: (change) => !cursor && !(filter.queue && change.queues && !change.queues.includes(filter.queue)) })
  const functions = useResource('/functions', { every: 60, live: () => false }).data?.functions ?? []
  const queues = useResource('/queues', { every: 10 }).data?.queues ?? []
  const listed = jobs.data?.jobs ?? []
  const values = (name) => ({
    status: () => STATUSES, function: () => functions.map((one) => one.name), queue: () => queues.map((one) => one.name),
    tag: () => [...new Set(listed.flatMap((job) => job.tags))], error: () => [...new Set(listed.map((job) => job.error?.type).filter(Boolean))],
    since: () => ['15m', '1h', '8h', '24h', '7d'], until: () => ['15m', '1h', '8h', '24h', '7d'],
  })[name]()
  const search = (text) => go(to('/jobs', { ...readQuery(text), limit: limit === '50' ? '' : limit }))
  const counts = queues.filter((one) => !filter.queue || one.name === filter.queue)
  const sum = (status) => counts.reduce((found, one) => found + (one.counts[status] ?? 0), 0)
  const only = { ...filter }
  delete only.status
  return html`<${Page} title="Jobs" actions=${html`<${BulkButtons} filter=${filter}/>`}>
    <${SearchBox} text=${writeQuery(filter)} onSearch=${search} values=${values}/>
    <nav class="tabs" aria-label="States"><a href=${to('/jobs', only)} aria-current=${filter.status ? undefined : 'true'}>all</a>${STATUSES.map((status) => html`<a key=${status} href=${to('/jobs', { ...only, status })}
      aria-current=${filter.status === status ? 'true' : undefined}>${status}${status !== 'stopped' && sum(status) ? html` <span class="faint">${sum(status).toLocaleString('en')}</span>` : null}</a>`)}</nav>
    <${Ready} of=${jobs}>${(data) => html`<${Panel} flush=${true}><${JobTable} jobs=${data.jobs} filter=${filter} empty=${data.next_cursor ? html`<${Further} filter=${filter} limit=${limit} cursor=${data.next_cursor}/>` : cursor ? html`<${Empty} title="There are no older jobs."/>` : null}/></${Panel}>
      <nav class="pager" aria-label="More jobs">${cursor ? html`<a class="button" href=${to('/jobs', { ...filter, limit })}>Newest</a>` : null}
        <span class="muted">${data.jobs.length ? `${data.jobs.length} shown` : null}</span>
        <span class="segments" role="group" aria-label="Jobs on a page">${SIZES.map((size) => html`<button aria-pressed=${size === limit} onClick=${() => go(to('/jobs', { ...filter, limit: size }))}>${size}</button>`)}</span>
        ${data.next_cursor ? html`<a class="button" rel="next" href=${to('/jobs', { ...filter, limit: limit === '50' ? '' : limit, cursor: data.next_cursor })}>Older</a>` : null}</nav>`}</${Ready}></${Page}>`
}

/** A page without a job that is not the last: the API looks at some thousand jobs for one page. */
const Further = ({ filter, limit, cursor }) => html`<${Empty} title="No job matches among those that were read so far.">
  <p><a class="button" href=${to('/jobs', { ...filter, limit: limit === '50' ? '' : limit, cursor })}>Look further</a></p></${Empty}>`

function BulkButtons({ filter }) {
  const given = asParameters(filter), { status } = filter
  const can = {
    requeue: may('enqueue') && ['failed', 'stopped', 'canceled'].includes(status),
    cancel: may('enqueue') && (!status || ['queued', 'started', 'scheduled', 'deferred'].includes(status)),
    delete: may('admin') && status !== 'started',
  }
  return html`${can.requeue && html`<button onClick=${() => openBulk('requeue', given)}>Requeue all…</button>`}
    ${can.cancel && html`<button onClick=${() => openBulk('cancel', given)}>Cancel all…</button>`}
    ${can.delete && html`<button onClick=${() => openBulk('delete', given)}>Delete all…</button>`}`
}

export const argumentsOf = (job) => {
  const text = [...job.args.map((value) => stringify(value)), ...Object.entries(job.kwargs).map(([name, value]) => `${name}=${stringify(value)}`)].join(', ')
  return text.length > 160 ? `${text.slice(0, 160)}…` : text
}

export const WAITS = {
  delay: 'delayed', retry: 'next attempt', rate_limit: 'rate limit', concurrency: 'concurrency', breaker: 'open breaker', dependency: 'waits for', dead_dependency: 'waits for a dead job',
}

function Note({ job }) {
  if (job.error) return html`<span class="clip bad">${job.error.type}: ${job.error.message}</span>`
  if (job.status === 'started' && job.progress) return html`<${Bar} progress=${job.progress}/>`
  if (job.waiting_for) return html`<span class="muted">${WAITS[job.waiting_for.reason] ?? job.waiting_for.reason} ${job.waiting_for.name ? html`<span class="mono">${job.waiting_for.name.length > 24 ? `${job.waiting_for.name.slice(0, 23)}…` : job.waiting_for.name}</span> ` : ''}${job.scheduled_for ? html`<${Time} at=${job.scheduled_for}/>` : null}</span>`
  return html`<span class="tags">${job.tags.map((tag) => html`<a class="tag" href=${to('/jobs', { tag })}>${tag}</a>`)}</span>`
}

export function Bar({ progress }) {
  const percent = progress.percent === null || progress.percent === undefined ? null : Number(progress.percent)
  return html`<span class="bar">${percent === null ? null : html`<progress max="100" value=${percent} aria-label="Progress"></progress>`}
    <span>${percent === null ? String(progress.current) : `${percent.toFixed(percent % 1 ? 1 : 0)} %`} ${progress.message ?? ''}</span></span>`
}

export function JobTable({ jobs, filter = {}, empty = null }) {
  const filtered = Object.keys(filter).length
  return html`<${Table} label="Jobs" rows=${jobs} keyOf=${(job) => job.id}
    empty=${empty ?? html`<${Empty} title=${filtered ? 'No job matches.' : 'There is no job yet.'}>${filtered ? html`<p><a href="/jobs">All jobs</a></p>` : html`<p>Enqueue one:</p><${Curl}/>`}</${Empty}>`}
    columns=${[
      { name: 'State', cell: (job) => html`<${Badge} of=${job.status}/>` },
      { name: 'Job', class: 'wide', cell: (job) => html`<span class="clip"><${FunctionLink} name=${job.function}/> <span class="mono muted">${argumentsOf(job)}</span></span><p class="sub"><${JobLink} id=${job.id}/></p>` },
      { name: 'Queue', cell: (job) => job.queue ? html`<a class="quiet" href=${to('/jobs', { ...filter, queue: job.queue })}>${job.queue}</a>` : '–' },
      { name: 'About', class: 'wide', cell: (job) => html`<${Note} job=${job}/>` },
      { name: 'Took', number: true, cell: (job) => duration(job.status === 'started' ? null : seconds(job.started_at, job.ended_at)) },
      { name: 'When', number: true, cell: (job) => html`<${Time} at=${job.ended_at ?? job.started_at ?? job.enqueued_at ?? job.created_at} relative=${true}/>` },
    ]}/>`
}
