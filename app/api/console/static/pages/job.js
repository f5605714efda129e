// One job: what happened when, its arguments, result and error, and what can be done with it.

import { useEffect, useRef, useState } from 'preact/hooks'
import { get, may, post, refresh, reload, send, useResource } from '../lib/api.js'
import { count, duration, seconds } from '../lib/format.js'
import { go, part, to } from '../lib/router.js'
import { Action, Badge, Code, Empty, Facts, Failure, FunctionLink, JobLink, Json, Page, Panel, Ready, TONES, Table, Time, act, confirm, html, now, openDialog, say } from '../lib/ui.js'
import { ArgumentsForm, JsonField, byName } from '../lib/form.js'
import { EnqueueForm, schemaOf } from './functions.js'
import { Bar, WAITS } from './jobs.js'

const ENDED = ['finished', 'failed', 'stopped', 'canceled']
const DELIVERIES = 'webhooks.deliver'
const LOG_PAGE = 1000
const MOST_LINES = 3000 // that are shown, the last ones
const LOG_TONES = { error: 'bad', critical: 'bad', warning: 'warn' }

export function JobPage({ name: id }) {
  const job = useResource(`/jobs/${part(id)}`, { every: 10, gap: 0.5, live: (change) => change.ids?.includes(id) })
  const isRunning = job.data?.status === 'started'
  useEffect(() => { // progress is in no event of the shared stream
    const timer = isRunning ? setInterval(() => { if (!document.hidden) reload(`/jobs/${part(id)}`) }, 1000) : 0
    return () => clearInterval(timer)
  }, [id, isRunning])
  return html`<${Page} kicker=${html`<a href="/jobs">Jobs</a>`} title=${job.data?.function ?? 'Job'} lead=${html`<span class="mono">${id}</span>`}
      actions=${job.data && html`<${Actions} job=${job.data}/>`}>
    <${Ready} of=${job} missing=${html`<${Empty} title="There is no such job."><p>It was deleted, or its time to be kept is over. <a href="/jobs">All jobs</a></p></${Empty}>`}>${(data) => html`<${Details} job=${data}/>`}</${Ready}></${Page}>`
}

function Details({ job }) {
  const description = job.description && !job.description.startsWith(`jobs.${job.function}(`) ? job.description : null
  return html`<${Panel}><div class="state"><${Badge} of=${job.status}/>
      ${job.waiting_for && html`<span>${WAITS[job.waiting_for.reason] ?? job.waiting_for.reason} ${job.waiting_for.reason.includes('dependency') && job.waiting_for.name !== job.workflow ? html`<${JobLink} id=${job.waiting_for.name}/>` : html`<span class="mono">${job.waiting_for.name}</span>`}
        ${job.waiting_for.until && html` until <${Time} at=${job.waiting_for.until}/>`}</span>`}
      ${job.progress && html`<${Bar} progress=${job.progress}/>`}
      <span class="muted">attempt ${String(job.attempts)}${Number(job.retries_left) ? `, ${job.retries_left} retries left` : ''}</span></div>
      <${Timeline} job=${job}/></${Panel}>
    <div class="columns wide-left"><div>
      ${job.error && html`<${ErrorPanel} error=${job.error}/>`}
      ${job.status === 'finished' && html`<${Panel} title="Result"><${Json} value=${job.result} label="Result"/></${Panel}>`}
      <${Panel} title="Arguments"><${Arguments} job=${job}/></${Panel}>
      <${Logs} job=${job}/>
      ${job.webhook && html`<${Deliveries} job=${job}/>`}
    </div><div><${Panel} title="About"><${Facts} items=${[
      ['Function', html`<${FunctionLink} name=${job.function}/>`], ['Queue', job.queue && html`<a href=${to('/jobs', { queue: job.queue })}>${job.queue}</a>`],
      ['Description', description], ['Created', html`<${Time} at=${job.created_at}/>`], ['Enqueued', job.enqueued_at && html`<${Time} at=${job.enqueued_at}/>`],
      ['Due', job.scheduled_for && html`<${Time} at=${job.scheduled_for}/>`], ['Started', job.started_at && html`<${Time} at=${job.started_at}/>`], ['Ended', job.ended_at && html`<${Time} at=${job.ended_at}/>`],
      ['Timeout', job.timeout === null ? null : Number(job.timeout) < 0 ? 'none' : duration(job.timeout)], ['Worker', job.worker && html`<a class="mono" href=${`/workers/${part(job.worker)}`}>${job.worker}</a>`],
      ['Tags', job.tags.length ? job.tags.map((tag) => html`<a class="tag" href=${to('/jobs', { tag })}>${tag}</a> `) : null],
      ['Schedule', job.schedule && html`<a href=${`/schedules/${part(job.schedule)}`}>${job.schedule}</a>`], ['Workflow', job.workflow && html`<a class="mono" href=${`/workflows/${part(job.workflow)}`}>${job.workflow}</a>`],
      ['Depends on', job.depends_on.length ? job.depends_on.slice(0, 20).map((id) => html`<${JobLink} id=${id}/> `) : null], ['Webhook', job.webhook && `${job.webhook.url} (${job.webhook.events.join(', ')})`],
    ]}/></${Panel}></div></div>`
}

/** What happened, as bars on one scale, with the same as a table. */
function Timeline({ job }) {
  const end = ENDED.includes(job.status) && job.ended_at ? Date.parse(job.ended_at) : now.value
  const begin = Date.parse(job.created_at ?? job.enqueued_at ?? job.started_at)
  if (Number.isNaN(begin)) return null
  const rows = [], history = [...job.history].reverse()
  let from = job.enqueued_at && !history.length ? job.enqueued_at : job.created_at ?? job.enqueued_at
  if (from !== job.created_at && job.created_at && seconds(job.created_at, from) > 0.05) rows.push({ name: 'before the queue', kind: 'held', from: job.created_at, to: from })
  for (const attempt of history) {
    if (attempt.started_at) {
      rows.push({ name: rows.some((row) => row.kind === 'run') ? 'waited for the next attempt' : 'waited in the queue', kind: 'wait', from, to: attempt.started_at })
      rows.push({ name: `attempt ${attempt.attempt}`, kind: 'run', tone: TONES[attempt.outcome], outcome: attempt.outcome, from: attempt.started_at, to: attempt.ended_at, error: attempt.error, worker: attempt.worker })
    }
    from = attempt.ended_at ?? from
  }
  const last = history.at(-1)
  if (job.status === 'started' && job.started_at) {
    rows.push({ name: rows.some((row) => row.kind === 'run') ? 'waited for the next attempt' : 'waited in the queue', kind: 'wait', from, to: job.started_at })
    rows.push({ name: `attempt ${job.attempts}`, kind: 'run', tone: 'busy', outcome: 'runs', from: job.started_at, to: null, worker: job.worker })
  } else if (['queued', 'scheduled', 'deferred'].includes(job.status)) rows.push({ name: last ? 'waits for the next attempt' : 'waits', kind: 'wait', from, to: null })
  const span = Math.max(end - begin, 1)
  const bounds = (row) => {
    const left = Math.max(0, Date.parse(row.from) - begin), right = row.to ? Date.parse(row.to) - begin : end - begin
    return { left: `${Math.min(99.6, (100 * left) / span)}%`, width: `${Math.max(0.4, (100 * Math.max(0, right - left)) / span)}%` }
  }
  const took = (row) => duration(row.to ? Math.max(0, seconds(row.from, row.to)) : Math.max(0, (now.value - Date.parse(row.from)) / 1000))
  return html`<div class="timeline" aria-hidden="true">${rows.map((row) => html`<div class="lane"><span class="lane-name">${row.name}</span><span class="track"><span class=${`stretch ${row.kind} ${row.tone ?? ''}`} style=${bounds(row)}></span></span><span class="lane-time">${took(row)}</span></div>`)}</div>
    <details class="figures"><summary>Attempts and times</summary><${Table} label="Attempts and times" rows=${rows} columns=${[
      { name: 'What', cell: (row) => row.name }, { name: 'Outcome', cell: (row) => (row.outcome ? html`<${Badge} of=${row.outcome}/>` : '') }, { name: 'From', cell: (row) => html`<${Time} at=${row.from}/>` },
      { name: 'To', cell: (row) => (row.to ? html`<${Time} at=${row.to}/>` : 'now') }, { name: 'Took', number: true, cell: took },
      { name: 'Worker', cell: (row) => (row.worker ? html`<a class="mono" href=${`/workers/${part(row.worker)}`}>${row.worker.slice(0, 12)}</a>` : '') }, { name: 'Error', class: 'wide', cell: (row) => (row.error ? html`<span class="clip">${row.error.type}: ${row.error.message}</span>` : '') }]}/></details>`
}

function Arguments({ job }) {
  if (!job.args.length && !Object.keys(job.kwargs).length) return html`<p class="muted">None.</p>`
  return html`${job.args.length ? html`<${Json} value=${job.args} label="Positional arguments"/>` : null}${Object.keys(job.kwargs).length ? html`<${Json} value=${job.kwargs} label="Arguments by name"/>` : null}`
}

function ErrorPanel({ error }) {
  const frames = error.traceback.split('\n').filter((line) => line.startsWith('  File "')).length
  return html`<${Panel} title=${error.type}><p class="message bad">${error.message || 'without a message'}</p>
    ${error.traceback && html`<details class="figures"><summary>Traceback${frames ? `, ${count(frames)} ${frames === 1 ? 'frame' : 'frames'}` : ''}</summary><${Code} text=${error.traceback} label="Traceback"/></details>`}</${Panel}>`
}

/** What the job has logged and printed; more is asked for each second while it runs. */
function Logs({ job }) {
  const [lines, setLines] = useState([])
  const ref = useRef(), follows = useRef(true), last = useRef(null)
  useEffect(() => {
    let current = true, busy = false
    const load = async () => {
      if (busy || document.hidden) return
      busy = true
      try {
        for (let more = true; more && current;) {
          const answer = await get(to(`/jobs/${part(job.id)}/logs`, { cursor: last.current, limit: LOG_PAGE }))
          if (!current) return
          if (answer.lines.length) {
            last.current = answer.lines.at(-1).id
            setLines((before) => [...before, ...answer.lines].slice(-MOST_LINES))
          }
          more = answer.lines.length === LOG_PAGE
        }
      } catch { /* the page says what is wrong */ }
      busy = false
    }
    load()
    const timer = job.status === 'started' ? setInterval(load, 1000) : setTimeout(load, 1500) // the last lines may follow the end
    return () => { current = false; clearInterval(timer); clearTimeout(timer) }
  }, [job.id, job.status, job.attempts])
  useEffect(() => { if (follows.current && ref.current) ref.current.scrollTop = ref.current.scrollHeight }, [lines])
  if (!lines.length) return null
  const scrolled = ({ target }) => { follows.current = target.scrollHeight - target.scrollTop - target.clientHeight < 8 }
  return html`<${Panel} title="Log" side=${html`<span class="muted">${count(lines.length)} ${lines.length === 1 ? 'line' : 'lines'}</span>`}><div class="log" ref=${ref} onScroll=${scrolled} tabindex="0" role="log" aria-label="Log">${lines.map((line, index) => html`
    ${index && line.attempt !== lines[index - 1].attempt ? html`<p class="log-attempt" key=${`attempt ${line.attempt}`}>attempt ${line.attempt}</p>` : null}
    <p key=${line.id} class=${LOG_TONES[line.level?.toLowerCase()] ?? ''}><${Time} at=${line.at}/> <span class="log-source">${line.level ? `${line.level.toLowerCase()} ` : ''}${line.source}</span> ${line.text}</p>`)}</div></${Panel}>`
}

function Deliveries({ job }) {
  const deliveries = useResource(to('/jobs', { function: DELIVERIES, queue: 'webhooks', q: job.id, limit: 20 }), { every: 30, gap: 5, live: (change) => change.queues?.includes('webhooks') })
  return html`<${Panel} title="Webhook deliveries" flush=${true}><${Ready} of=${deliveries}>${(data) => html`<${Table} label="Webhook deliveries" rows=${data.jobs} keyOf=${(one) => one.id} empty=${html`<${Empty} title=${data.next_cursor ? 'None is among the newest deliveries.' : 'Nothing was delivered yet.'}><p>A delivery follows the end of the job. <a href="/webhooks">All deliveries</a></p></${Empty}>`}
    columns=${[{ name: 'Delivery', cell: (one) => html`<${JobLink} id=${one.id}/>` }, { name: 'State', cell: (one) => html`<${Badge} of=${one.status}/>` }, { name: 'Answer', cell: (one) => (one.result ? String(one.result.status) : one.error?.message ?? '') }]}/>`}</${Ready}></${Panel}>`
}

function Actions({ job }) {
  const again = ['failed', 'stopped', 'canceled'].includes(job.status), waits = ['queued', 'scheduled', 'deferred'].includes(job.status), url = `/jobs/${part(job.id)}`
  const ask = (title, text, label, run) => confirm({ title, text, label, run })
  return html`${may('enqueue') && again && html`<${Action} kind="primary" run=${() => act(post(`${url}/requeue`), 'Requeued')}>Requeue</${Action}>
      <button onClick=${() => openRequeue(job)}>Requeue with…</button>`}
    ${may('enqueue') && job.status === 'finished' && job.function && html`<button onClick=${() => openAgain(job)}>Run again…</button>`}
    ${may('enqueue') && waits && html`<${Action} run=${() => act(post(`${url}/cancel`), 'Canceled')}>Cancel</${Action}>`}
    ${may('enqueue') && (job.status === 'queued' || job.status === 'scheduled') && html`<${Action} run=${() => act(send('PATCH', url, { body: { at_front: true, ...(job.status === 'scheduled' ? { delay: 0 } : {}) } }), job.status === 'queued' ? 'It is the next of its queue' : 'It is due now')}>${job.status === 'queued' ? 'To the front' : 'Run now'}</${Action}>`}
    ${may('enqueue') && job.status === 'started' && html`<button class="danger" onClick=${() => ask('Stop the job', html`<p>Its worker stops it where it is.</p>`, 'Stop', async () => { await post(`${url}/cancel`); say('The job is being stopped') })}>Stop…</button>`}
    ${may('admin') && job.status !== 'started' && html`<button class="danger" onClick=${() => ask('Delete the job', html`<p>Its result and history are deleted too.</p>`, 'Delete', async () => { await send('DELETE', url); say('Deleted'); go('/jobs') })}>Delete…</button>`}`
}

const openRequeue = (job) => openDialog('Requeue with other arguments', (close) => html`<${Requeue} job=${job} close=${close}/>`)
const openAgain = (job) => openDialog('Run again as a new job', (close) => html`<${RunAgain} job=${job} close=${close}/>`)

function useFunction(name) {
  const [found, setFound] = useState(undefined)
  useEffect(() => { schemaOf(name).then(setFound, () => setFound(null)) }, [name])
  return found
}

function Requeue({ job, close }) {
  const of = useFunction(job.function)
  const [queue, setQueue] = useState(job.queue ?? ''), [problems, setProblems] = useState([]), [error, setError] = useState(null)
  const [value, setValue] = useState(null), [errors, setErrors] = useState([])
  const named = of ? byName(of.arguments, job.args, job.kwargs) : null
  if (of === undefined) return html`<div class="dialog-body"><p class="muted">Loading…</p></div>`
  const run = async () => {
    const call = named ? { args: [], kwargs: value } : value
    try {
      await post(`/jobs/${part(job.id)}/requeue`, { ...call, ...(queue !== job.queue ? { queue } : {}) })
      say('Requeued with the new arguments')
      close()
      refresh()
    } catch (caught) {
      setProblems((caught.errors ?? []).map((item) => ({ ...item, pointer: item.pointer.replace(/^#\/kwargs/, '#') })))
      setError(caught)
    }
  }
  const changed = (next, found) => { setValue(next); setErrors(found); setProblems([]); setError(null) }
  return html`<div class="dialog-body">${named
      ? html`<${ArgumentsForm} schema=${of.arguments} value=${named} problems=${problems} onChange=${changed}/>`
      : html`<${JsonField} label="Call as JSON" rows=${8} value=${value ?? { args: job.args, kwargs: job.kwargs }} onChange=${(next) => changed(next, next?.args && next?.kwargs ? [] : [{ pointer: '', message: 'needs args and kwargs' }])}/>`}
    <div class="field"><label for="requeue-queue">Queue</label><input id="requeue-queue" value=${queue} onInput=${(event) => setQueue(event.target.value.trim())}/></div>
    ${error && !problems.some((item) => item.pointer !== '#') && html`<${Failure} error=${error}/>`}</div>
    <div class="dialog-foot"><button onClick=${close}>Keep as it is</button><${Action} kind="primary" disabled=${errors.length > 0 || (!named && !value)} run=${run}>Requeue</${Action}></div>`
}

function RunAgain({ job, close }) {
  const of = useFunction(job.function)
  if (of === undefined) return html`<div class="dialog-body"><p class="muted">Loading…</p></div>`
  if (of === null) return html`<div class="dialog-body"><p>The function is not offered now.</p></div>`
  const named = byName(of.arguments, job.args, job.kwargs)
  return html`<div class="dialog-body">${named ? html`<${EnqueueForm} of=${of} start=${named}/>` : html`<p>The names of its arguments are not known: send <code>POST /jobs</code>.</p>`}</div><div class="dialog-foot"><button onClick=${close}>Close</button></div>`
}
