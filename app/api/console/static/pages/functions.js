// The functions: a table with their figures; one of them with charts, options, jobs, and a form to run it.

import { useRef, useState } from 'preact/hooks'
import { get, may, post, refresh, useResource } from '../lib/api.js'
import { count, duration, percent } from '../lib/format.js'
import { part, to } from '../lib/router.js'
import { Action, Badge, Code, Curl, Empty, Facts, Failure, FunctionLink, JobLink, Json, Page, Panel, Ready, Table, Time, html } from '../lib/ui.js'
import { Histogram, Spark } from '../lib/chart.js'
import { ArgumentsForm, initialValue } from '../lib/form.js'
import { Charts, NoFigures, Spans, Tiles, everyOf, useSpan } from './overview.js'

export function Functions() {
  const span = useSpan(), functions = useResource('/functions', { every: 30, live: () => false })
  const stats = useResource(`/stats/functions?from=${span}`, { every: everyOf(span), gap: 5 })
  const of = Object.fromEntries((stats.data?.functions ?? []).map((one) => [one.name, one]))
  const [filter, setFilter] = useState('')
  const ended = (name) => (of[name] ? of[name].finished + of[name].failed : null)
  const text = (name, read) => (of[name] ? read(of[name]) : html`<span class="faint">–</span>`)
  const columns = [
    { name: 'Function', sort: (row) => row.name, cell: (row) => html`<${FunctionLink} name=${row.name}/><p class="sub">${row.description.split('\n')[0]}</p>` },
    { name: 'Queue', sort: (row) => row.options.queue, cell: (row) => row.options.queue },
    { name: 'Trend', cell: (row) => html`<${Spark} values=${of[row.name]?.trend?.map(Number)} label=${`Ended runs of ${row.name}`}/>` },
    { name: 'Ended', number: true, sort: (row) => ended(row.name), cell: (row) => text(row.name, () => count(ended(row.name))) },
    { name: 'Failed', number: true, sort: (row) => of[row.name]?.failed, cell: (row) => text(row.name, (one) => (one.failed ? html`<a class="bad" href=${to('/jobs', { function: row.name, status: 'failed' })}>${percent(one.failed, ended(row.name))}</a>` : '0 %')) },
    { name: 'Run p50', number: true, sort: (row) => of[row.name]?.run?.p50, cell: (row) => text(row.name, (one) => duration(one.run?.p50)) },
    { name: 'p95', number: true, sort: (row) => of[row.name]?.run?.p95, cell: (row) => text(row.name, (one) => duration(one.run?.p95)) },
    { name: 'p99', number: true, sort: (row) => of[row.name]?.run?.p99, cell: (row) => text(row.name, (one) => duration(one.run?.p99)) },
    { name: 'Wait p95', number: true, sort: (row) => of[row.name]?.wait?.p95, cell: (row) => text(row.name, (one) => duration(one.wait?.p95)) },
  ]
  return html`<${Page} title="Functions" actions=${html`<label class="unseen" for="function-filter">Filter functions</label><input id="function-filter" data-search placeholder="Filter by name" value=${filter} onInput=${(event) => setFilter(event.target.value)}/><${Spans} path="/functions"/>`}>
    <${Ready} of=${functions}>${(data) => html`
      <${SetAside} data=${data}/>
      <${Panel} flush=${true}><${Table} label="Functions" columns=${columns} keyOf=${(row) => row.name} initial=${{ name: 'Function', down: false }}
        rows=${data.functions.filter((one) => one.name.toLowerCase().includes(filter.toLowerCase()))}
        empty=${html`<${Empty} title=${filter ? 'No function has such a name.' : 'There is no function yet.'}><p>Write one in a file in <code>jobs/</code>, say <code>jobs/shop.py</code>:</p><${Code} text=${'def total(prices: list[float]) -> float:\n    """Add up prices."""\n    return sum(prices)'}/></${Empty}>`}/></${Panel}>`}</${Ready}></${Page}>`
}

const SetAside = ({ data }) => {
  const entries = [...Object.entries(data.broken), ...data.rejected.map((one) => [`${one.name} (${one.file}:${one.line})`, one.reason])]
  return entries.length ? html`<${Panel} title="Set aside"><dl class="facts">${entries.map(([name, why]) => html`<div><dt class="mono">${name}</dt><dd>${why}</dd></div>`)}</dl></${Panel}>` : null
}

export function FunctionPage({ name }) {
  const span = useSpan(), found = useResource(`/functions/${part(name)}`, { every: 60, live: () => false })
  const stats = useResource(to('/stats', { function: name, from: span }), { every: everyOf(span), gap: 5 })
  return html`<${Page} kicker=${html`<a href="/functions">Functions</a>`} title=${name} actions=${html`<${Spans} path=${`/functions/${part(name)}`}/>`} lead=${found.data?.description.split('\n')[0]}>
    ${stats.data ? html`<${Numbers} stats=${stats.data}/>` : html`<${NoFigures} error=${stats.error}/>`}
    <${Ready} of=${found} missing=${html`<${Empty} title="There is no such function now."><p>${found.error?.message}</p></${Empty}>`}>${(data) => html`
      <div class="columns wide-left">
        <div>${may('enqueue') && html`<${Panel} title="Run it"><${EnqueueForm} key=${name} of=${data}/></${Panel}>`}
          <${Recent} title="Recent jobs" filter=${{ function: name }}/><${Recent} title="Last failures" filter=${{ function: name, status: 'failed' }} failures=${true}/></div>
        <div><${Options} of=${data}/></div></div>`}</${Ready}></${Page}>`
}

function Numbers({ stats }) {
  const { total } = stats, ended = total.finished + total.failed
  return html`<${Tiles} items=${[
    ['Enqueued', count(total.enqueued)], ['Ended', count(ended), `${count(total.retried)} retried`], ['Failure rate', percent(total.failed, ended), null, total.failed ? 'bad' : ''],
    ['Run, p50', duration(total.run?.p50)], ['Run, p95', duration(total.run?.p95), total.run && `at most ${duration(total.run.max)}`], ['Wait, p95', duration(total.wait?.p95)]]}/>
    <${Panel}><${Charts} stats=${stats}/>${total.run?.histogram && html`<${Histogram} title="Run times of all runs shown" bins=${total.run.histogram.map((bin) => bin.map(Number))}/>`}</${Panel}>`
}

function Options({ of }) {
  const { options } = of
  const limit = (one) => one && `${one.most} by ${one.by}${one.key ? ` and ${one.key}` : ''}`
  const rest = of.description.split('\n').slice(1).join('\n').trim()
  return html`<${Panel} title="Options"><${Facts} items=${[
    ['Module', html`<span class="mono">${of.module}</span>`], ['Queue', options.queue], ['Timeout', options.timeout === null ? 'none' : duration(options.timeout)], ['Retries', String(options.max_retries)],
    ['Waits at most', options.ttl && duration(options.ttl)], ['Result is kept', options.result_ttl !== null && (options.result_ttl < 0 ? 'for ever' : duration(options.result_ttl))], ['Failure is kept', options.failure_ttl !== null && (options.failure_ttl < 0 ? 'for ever' : duration(options.failure_ttl))],
    ['Rate limit', limit(options.rate_limit)], ['Concurrency', limit(options.concurrency)],
    ['Breaker', options.breaker && `${options.breaker.failures} failures in ${duration(options.breaker.window)}, then ${duration(options.breaker.cool_down)} pause`],
    ['Unique', options.unique && `while ${options.unique.during.replaceAll('_', ' ')}; then ${options.unique.on_conflict}`], ['Tags', options.tags.join(', ')], ['Webhook', options.webhook?.url],
    ['Idempotent', options.idempotent ? 'yes' : 'no'], ['Runs alone', options.alone ? 'yes' : null], ['Critical', options.critical ? 'yes: each failure for good is an alert' : null]].map(([name, value]) => [name, value === false ? null : value])}/></${Panel}>
    ${rest && html`<${Panel} title="Description"><p class="prose">${rest}</p></${Panel}>`}
    <${Panel} title="Arguments"><${Json} value=${of.arguments} label="Schema of the arguments"/></${Panel}>
    ${Object.keys(of.result).length ? html`<${Panel} title="Result"><${Json} value=${of.result} label="Schema of the result"/></${Panel}>` : null}`
}

function Recent({ title, filter, failures = false }) {
  const jobs = useResource(to('/jobs', { ...filter, limit: 8 }), { every: 20, gap: 3 })
  return html`<${Panel} title=${title} side=${html`<a href=${to('/jobs', filter)}>All</a>`} flush=${true}><${Ready} of=${jobs}>${(data) => html`<${Table} label=${title} rows=${data.jobs} keyOf=${(job) => job.id}
    empty=${html`<${Empty} title=${data.next_cursor ? 'None is among the newest jobs.' : failures ? 'No failed job is kept.' : 'There is no job yet.'}>${data.next_cursor ? html`<p><a href=${to('/jobs', { ...filter, cursor: data.next_cursor })}>Look further</a></p>` : failures ? null : html`<${Curl} path=${`/functions/${filter.function}/jobs`} body="{…}"/>`}</${Empty}>`}
    columns=${[{ name: 'Job', cell: (job) => html`<${JobLink} id=${job.id}/>` }, failures
      ? { name: 'Error', class: 'wide', cell: (job) => html`<span class="clip">${job.error?.type}: ${job.error?.message}</span>` } : { name: 'State', cell: (job) => html`<${Badge} of=${job.status}/>` },
      { name: 'When', cell: (job) => html`<${Time} at=${job.ended_at ?? job.started_at ?? job.created_at} relative=${true}/>` }]}/>`}</${Ready}></${Panel}>`
}

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')

/** A form of a function's arguments. One Idempotency-Key for what it holds: a second click makes no second job. */
export function EnqueueForm({ of, start = null }) {
  const [value, setValue] = useState(start ?? initialValue(of.arguments)), [errors, setErrors] = useState([])
  const [problems, setProblems] = useState([]), [error, setError] = useState(null), [made, setMade] = useState(null), [form, setForm] = useState(0)
  const [queue, setQueue] = useState(''), [delay, setDelay] = useState('')
  const idempotency = useRef({ text: null, key: null })
  const schema = of.arguments
  const run = async () => {
    const body = { function: of.name, kwargs: value, ...(queue ? { queue } : {}), ...(delay ? { delay } : {}) }
    const plain = !queue && !delay
    const text = JSON.stringify([String(plain), JSON.stringify(body, (_, item) => (item?.text ?? item))])
    if (idempotency.current.text !== text) idempotency.current = { text, key: newKey() }
    try {
      const headers = { 'Idempotency-Key': idempotency.current.key }
      const job = plain ? await post(`/functions/${part(of.name)}/jobs`, value, headers) : await post('/jobs', body, headers)
      setMade(job); setProblems([]); setError(null); refresh()
    } catch (caught) {
      setMade(null)
      setProblems((caught.errors ?? []).map((item) => ({ ...item, pointer: item.pointer.replace(/^#\/kwargs/, '#') })))
      setError(caught)
    }
  }
  const again = () => { idempotency.current = { text: null, key: null }; setMade(null) }
  const unplaced = error && !problems.some((item) => item.pointer !== '#')
  return html`<${ArgumentsForm} key=${form} schema=${schema} value=${value} problems=${problems} onChange=${(next, found) => { setValue(next); setErrors(found); setProblems([]); setError(null); setMade(null) }}/>
    <details class="more"><summary>Queue and delay</summary><div class="form pair">
      <div class="field"><label for="enqueue-queue">Queue</label><input id="enqueue-queue" placeholder=${of.options.queue} value=${queue} onInput=${(event) => setQueue(event.target.value.trim())}/></div>
      <div class="field"><label for="enqueue-delay">Delay</label><input id="enqueue-delay" placeholder="such as 10m" value=${delay} onInput=${(event) => setDelay(event.target.value.trim())}/></div></div></details>
    ${unplaced && html`<${Failure} error=${error}/>`}
    <div class="form-foot">${made
      ? html`<span class="made" role="status">Enqueued as <${JobLink} id=${made.id}/></span><button type="button" onClick=${again}>Run once more</button><button type="button" onClick=${() => { setValue(initialValue(schema)); setForm(form + 1); again() }}>Clear</button>`
      : html`<${Action} kind="primary" disabled=${errors.length > 0} run=${run}>Enqueue</${Action}>${errors.length ? html`<span class="muted">${errors[0].pointer.slice(1) || 'The text'} ${errors[0].message}</span>` : null}`}</div>`
}

export const schemaOf = (name) => get(`/functions/${part(name)}`)
