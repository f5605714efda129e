// The schedules: a table, a calendar of the next runs, and one schedule with its runs; made and changed with a preview.

import { useEffect, useState } from 'preact/hooks'
import { get, may, post, refresh, send, useResource } from '../lib/api.js'
import { count, duration, seconds } from '../lib/format.js'
import { go, part } from '../lib/router.js'
import { Action, Badge, Empty, Facts, Failure, FunctionLink, JobLink, Json, Page, Panel, Ready, Table, Time, act, confirm, html, now, openDialog, say } from '../lib/ui.js'
import { ArgumentsForm, JsonField, byName, initialValue } from '../lib/form.js'
import { Unreadable } from './queues.js'

const DAY = 86_400_000, HOUR = 3_600_000
const LATE = 10_000 // milliseconds after which a run that did not come is late
const RULE = ['function', 'args', 'kwargs', 'queue', 'cron', 'interval', 'at', 'timezone', 'start', 'end', 'jitter', 'timeout', 'retry', 'overlap', 'catch_up', 'catch_up_window', 'pause_on_failure', 'max_runs', 'description', 'paused']

const next = (schedule) => (schedule.paused ? null : schedule.next_runs[0]?.utc ?? null)
const isLate = (schedule) => next(schedule) !== null && now.value - Date.parse(next(schedule)) > LATE

function State({ schedule }) {
  if (schedule.paused) return html`<${Badge} of="paused"/>`
  if (schedule.reason) return html`<${Badge} of="broken"/>`
  if (isLate(schedule)) return html`<${Badge} of="late"/>`
  return html`<${Badge} of="on">${next(schedule) ? 'on' : 'over'}</${Badge}>`
}

const Outcomes = ({ runs }) => html`<span class="outcomes">${runs.slice(-10).map((run) => html`<a href=${`/jobs/${part(run.job_id)}`} class=${`outcome ${run.status}`} title=${`${run.status}, due ${run.scheduled_for}`}><span class="unseen">${run.status}, due ${run.scheduled_for}</span></a>`)}</span>`

function Buttons({ schedule, small = 'small' }) {
  const url = `/schedules/${part(schedule.name)}`
  const trigger = async () => {
    const job = await post(`${url}/trigger`)
    say('A run was enqueued', 'good', { href: `/jobs/${part(job.id)}`, text: 'Show it' })
    refresh()
  }
  return html`${may('enqueue') && html`<${Action} kind=${small} run=${trigger}>Run now</${Action}>`}
    ${may('admin') && (schedule.paused ? html`<${Action} kind=${small} run=${() => act(post(`${url}/resume`), `${schedule.name} goes on`)}>Resume</${Action}>` : html`<${Action} kind=${small} run=${() => act(post(`${url}/pause`), `${schedule.name} is paused`)}>Pause</${Action}>`)}`
}

export function Schedules() {
  const found = useResource('/schedules?limit=500', { every: 10, gap: 3 })
  return html`<${Page} title="Schedules" actions=${may('admin') && html`<button class="primary" onClick=${() => openEditor(null)}>New schedule…</button>`}>
    <${Ready} of=${found}>${(data) => html`
      <${Unreadable} entries=${[...(data.unreadable ?? []), ...data.rejected.map((one) => ({ name: one.name, reason: one.reason })), ...data.quarantined.map((one) => ({ name: one.id, reason: one.reason }))]}/>
      <${Panel} flush=${true}><${Table} label="Schedules" rows=${data.schedules} keyOf=${(one) => one.name} initial=${{ name: 'Schedule', down: false }}
        empty=${html`<${Empty} title="There is no schedule yet."><p>Declare one in <code>scheduler.py</code>${may('admin') ? ', or make one here' : ''}:</p><pre class="code">cron("0 2 * * mon-fri", "maintenance.clean", args=[".", 2_592_000])</pre></${Empty}>`}
        columns=${[
          { name: 'Schedule', sort: (one) => one.name, cell: (one) => html`<a class="strong" href=${`/schedules/${part(one.name)}`}>${one.name}</a><p class="sub">${one.text}</p>` },
          { name: 'State', cell: (one) => html`<${State} schedule=${one}/>${one.reason ? html`<p class="sub">${one.reason}</p>` : null}` },
          { name: 'Function', sort: (one) => one.function, cell: (one) => html`<${FunctionLink} name=${one.function}/>` },
          { name: 'Next run', sort: next, cell: (one) => (next(one) ? html`<${Time} at=${next(one)}/><p class="sub"><${Time} at=${next(one)} relative=${true}/></p>` : '–') },
          { name: 'Last runs', cell: (one) => html`<${Outcomes} runs=${one.last_runs}/>` },
          { name: 'Runs', number: true, sort: (one) => one.counts.runs, cell: (one) => count(one.counts.runs) },
          { name: 'Failed', number: true, sort: (one) => one.counts.failures, cell: (one) => count(one.counts.failures) },
          { name: 'Actions', hidden: true, cell: (one) => html`<span class="row-actions"><${Buttons} schedule=${one}/></span>` },
        ]}/></${Panel}>
      ${data.schedules.length ? html`<${Calendar} schedules=${data.schedules}/>` : null}`}</${Ready}></${Page}>`
}

/** The next day by hours, or the next week by days. A schedule tells its next ten runs: after them it is not drawn. */
function Calendar({ schedules }) {
  const [days, setDays] = useState(1)
  const minute = Math.floor(now.value / 60_000) * 60_000, until = minute + days * DAY
  const begin = days === 1 ? Math.floor(minute / HOUR) * HOUR : new Date(minute).setHours(0, 0, 0, 0)
  const slots = Array.from({ length: days === 1 ? 24 : 7 }, (_, at) => {
    const date = new Date(begin)
    if (days === 1) date.setTime(begin + at * HOUR)
    else date.setDate(date.getDate() + at)
    return date
  })
  const frequent = [], drawn = []
  for (const schedule of schedules) {
    if (schedule.paused) continue
    const runs = schedule.next_runs.map((run) => Date.parse(run.utc))
    if (runs.length >= 10 && runs.at(-1) < until) frequent.push(schedule)
    else drawn.push(...runs.filter((at) => at < until).map((at) => ({ at, schedule })))
  }
  drawn.sort((a, b) => a.at - b.at)
  const inSlot = (at) => drawn.filter((run) => run.at >= slots[at].getTime() && (at + 1 === slots.length || run.at < slots[at + 1].getTime()))
  const label = (date) => (days === 1 ? date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' }) : date.toLocaleDateString('en-GB', { weekday: 'short', day: 'numeric', month: 'short' }))
  return html`<${Panel} title="Next runs" side=${html`<span class="segments" role="group" aria-label="Time shown"><button aria-pressed=${days === 1} onClick=${() => setDays(1)}>day</button><button aria-pressed=${days === 7} onClick=${() => setDays(7)}>week</button></span>`}>
    ${frequent.length ? html`<p class="muted">Too often to draw: ${frequent.map((one, index) => html`${index ? ', ' : ''}<a href=${`/schedules/${part(one.name)}`}>${one.name}</a> (${one.text.toLowerCase()})`)}</p>` : null}
    <ol class=${days === 1 ? 'calendar day' : 'calendar week'}>${slots.map((slot, at) => {
      const runs = inSlot(at)
      return html`<li key=${slot.getTime()} class=${runs.length ? 'has' : ''}><span class="slot">${label(slot)}</span>${runs.map((run) => html`<a class="run" href=${`/schedules/${part(run.schedule.name)}`} title=${`${run.schedule.name}, ${new Date(run.at).toISOString().replace('T', ' ').replace('.000Z', ' UTC')}`}><b>${new Date(run.at).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}</b> ${run.schedule.name}</a>`)}</li>`
    })}</ol>${drawn.length ? null : html`<p class="muted">${frequent.length ? 'No other run is due.' : 'No run is due.'}</p>`}</${Panel}>`
}

export function SchedulePage({ name }) {
  const url = `/schedules/${part(name)}`, found = useResource(url, { every: 10, gap: 2 })
  const remove = async () => { await send('DELETE', url); say(`${name} was deleted`); go('/schedules') }
  const one = found.data
  return html`<${Page} kicker=${html`<a href="/schedules">Schedules</a>`} title=${name} lead=${one?.text} actions=${one && html`<${Buttons} schedule=${one} small=""/>
      ${may('admin') && !one.declared && html`<button onClick=${() => openEditor(one)}>Change…</button><button class="danger" onClick=${() => confirm({ title: `Delete ${name}`, text: html`<p>Its jobs stay.</p>`, label: 'Delete', run: remove })}>Delete…</button>`}`}>
    <${Ready} of=${found} missing=${html`<${Empty} title="There is no such schedule."><p><a href="/schedules">All schedules</a></p></${Empty}>`}>${(schedule) => html`<div class="columns wide-left"><div>
      <${Panel} title="Last runs" flush=${true}>${schedule.last_runs.length ? html`<${Runs} runs=${schedule.last_runs}/>` : html`<${Empty} title="It did not run yet."/>`}</${Panel}>
      <${Panel} title="Next runs" flush=${true}>${schedule.paused ? html`<p class="pad muted">None while it is paused.</p>` : html`<${Table} label="Next runs" rows=${schedule.next_runs} keyOf=${(run) => run.utc} empty=${html`<${Empty} title="It will not run again."/>`} columns=${[
        { name: 'When', cell: (run) => html`<${Time} at=${run.utc}/>` }, { name: 'In', cell: (run) => html`<${Time} at=${run.utc} relative=${true}/>` }, { name: schedule.timezone, cell: (run) => html`<span class="mono">${run.local.replace('T', ' ')}</span>` }]}/>`}</${Panel}>
      </div><div><${Panel} title="About"><${Facts} items=${[
        ['State', html`<${State} schedule=${schedule}/>`], ['Reason', schedule.reason], ['Function', html`<${FunctionLink} name=${schedule.function}/>`], ['Description', schedule.description],
        ['Rule', html`<code>${schedule.cron ?? (schedule.interval !== null ? `every ${duration(schedule.interval)}` : schedule.at)}</code>`], ['Time zone', schedule.timezone], ['From', schedule.start && html`<${Time} at=${schedule.start}/>`], ['To', schedule.end && html`<${Time} at=${schedule.end}/>`],
        ['Queue', schedule.queue], ['If the last run is not over', schedule.overlap.replace('_', ' ')], ['What was missed', `${schedule.catch_up}, within ${duration(schedule.catch_up_window)}`], ['Jitter', Number(schedule.jitter) ? `up to ${duration(schedule.jitter)}` : null],
        ['Runs at most', schedule.max_runs && String(schedule.max_runs)], ['Paused after', schedule.pause_on_failure && `${schedule.pause_on_failure} failures in a row`], ['Runs', count(schedule.counts.runs)], ['Failed', count(schedule.counts.failures)], ['Skipped', count(schedule.counts.skips)], ['Missed', count(schedule.counts.misses)],
        ['Declared', schedule.declared ? 'in scheduler.py: change it there' : 'by the API']]}/></${Panel}>
      <${Panel} title="Arguments"><${Json} value=${schedule.args.length ? { args: schedule.args, kwargs: schedule.kwargs } : schedule.kwargs} label="Arguments"/></${Panel}></div></div>`}</${Ready}></${Page}>`
}

const Runs = ({ runs }) => html`<div class="scroll" tabindex="0" role="region" aria-label="Last runs"><table><thead><tr><th scope="col">Due</th><th scope="col">State</th><th scope="col">Job</th><th scope="col" class="number">Late by</th><th scope="col" class="number">Took</th></tr></thead>
  <tbody>${[...runs].reverse().map((run) => html`<${Run} key=${run.job_id} run=${run}/>`)}</tbody></table></div>`

function Run({ run }) {
  const job = useResource(`/jobs/${part(run.job_id)}`, { every: 60, live: (change) => change.ids?.includes(run.job_id) }).data
  const late = seconds(run.scheduled_for, job?.started_at)
  return html`<tr><td><${Time} at=${run.scheduled_for}/></td><td><${Badge} of=${run.status}/></td><td><${JobLink} id=${run.job_id}/></td><td class="number">${late === null ? '–' : duration(Math.max(0, late))}</td><td class="number">${duration(seconds(job?.started_at, job?.ended_at))}</td></tr>`
}

const openEditor = (schedule) => openDialog(schedule ? `Change ${schedule.name}` : 'New schedule', (close) => html`<${Editor} ...${{ schedule, close }}/>`)

function Editor({ schedule, close }) {
  const [name, setName] = useState(schedule?.name ?? '')
  const kinds = [['cron', 'Cron expression', '0 2 * * mon-fri'], ['interval', 'Interval', '1h30m'], ['at', 'One moment', '2027-01-01T00:00:00Z']]
  const [kind, setKind] = useState(schedule ? kinds.find(([one]) => schedule[one] !== null)[0] : 'cron')
  const [when, setWhen] = useState(schedule ? String(schedule[kind] ?? '') : '')
  const [rule, setRule] = useState(schedule ? Object.fromEntries(RULE.map((field) => [field, schedule[field]])) : { function: '', args: [], kwargs: {}, timezone: 'UTC', overlap: 'allow', catch_up: 'one' })
  const [errors, setErrors] = useState([]), [preview, setPreview] = useState(null), [problem, setProblem] = useState(null), [error, setError] = useState(null)
  const functions = useResource('/functions', { every: 60, live: () => false }).data?.functions ?? []
  const chosen = functions.find((one) => one.name === rule.function)
  const named = chosen ? byName(chosen.arguments, rule.args ?? [], rule.kwargs ?? {}) : null
  const set = (change) => { setRule((before) => ({ ...before, ...change })); setError(null) }
  const timing = () => ({ [kind]: kind === 'interval' && /^\d+(\.\d+)?$/.test(when) ? Number(when) : when, timezone: rule.timezone || 'UTC', ...(rule.start ? { start: rule.start } : {}), ...(rule.end ? { end: rule.end } : {}) })
  useEffect(() => {
    if (!when.trim()) { setPreview(null); setProblem(null); return }
    let current = true
    const timer = setTimeout(() => post('/schedules/preview', timing()).then((found) => { if (current) { setPreview(found); setProblem(null) } }, (caught) => { if (current) { setPreview(null); setProblem(caught) } }), 250)
    return () => { current = false; clearTimeout(timer) }
  }, [kind, when, rule.timezone, rule.start, rule.end])
  const save = async () => {
    const body = { ...rule, cron: undefined, interval: undefined, at: undefined, ...timing() }
    for (const field of Object.keys(body)) if (body[field] === null || body[field] === '') delete body[field]
    try {
      await send('PUT', `/schedules/${part(name)}`, { body })
      say(schedule ? `${name} was changed` : `${name} was made`)
      close()
      refresh()
      if (!schedule) go(`/schedules/${part(name)}`)
    } catch (caught) { setError(caught) }
  }
  const choose = (event) => {
    const of = functions.find((one) => one.name === event.target.value)
    set({ function: event.target.value, args: [], kwargs: of ? initialValue(of.arguments) : {} })
  }
  const text = (field, label, more = {}) => html`<div class="field"><label for=${`schedule-${field}`}>${label}</label><input id=${`schedule-${field}`} value=${rule[field] === null || rule[field] === undefined ? '' : String(rule[field])} onInput=${(event) => set({ [field]: more.number ? (event.target.value === '' ? null : Number(event.target.value)) : event.target.value })} ...${more.attributes ?? {}}/></div>`
  const select = (field, label, options) => html`<div class="field"><label for=${`schedule-${field}`}>${label}</label><select id=${`schedule-${field}`} onChange=${(event) => set({ [field]: event.target.value })}>${options.map((one) => html`<option value=${one} selected=${one === rule[field]}>${one.replace('_', ' ')}</option>`)}</select></div>`
  const missing = !name ? 'It needs a name' : !when.trim() ? 'It needs a rule' : problem ? 'The rule is not valid' : !rule.function ? 'It needs a function' : errors.length ? `${errors[0].pointer.slice(1)} ${errors[0].message}` : ''
  return html`<div class="dialog-body form">
    ${!schedule && html`<div class="field"><label for="schedule-name">Name</label><input id="schedule-name" value=${name} autocomplete="off" onInput=${(event) => setName(event.target.value.trim())}/></div>`}
    <div class="pair"><div class="field"><label for="schedule-kind">Rule</label><select id="schedule-kind" onChange=${(event) => { setKind(event.target.value); setWhen('') }}>${kinds.map(([one, label]) => html`<option value=${one} selected=${one === kind}>${label}</option>`)}</select></div>
      <div class="field"><label for="schedule-when">${kinds.find(([one]) => one === kind)[1]}</label><input id="schedule-when" class="mono" autocomplete="off" placeholder=${kinds.find(([one]) => one === kind)[2]} value=${when} onInput=${(event) => setWhen(event.target.value)} aria-invalid=${Boolean(problem)} aria-describedby="schedule-preview"/></div></div>
    <div id="schedule-preview" class="preview" role="status">${problem ? html`<p class="bad">${problem.errors?.[0]?.detail ?? problem.message}</p>` : preview ? html`<p class="strong">${preview.text}</p><ol>${preview.next_runs.slice(0, 5).map((run) => html`<li><${Time} at=${run.utc}/> <span class="muted">${run.local.replace('T', ' ')}</span></li>`)}</ol>${preview.next_runs.length ? null : html`<p>It would never run.</p>`}` : html`<p class="muted">What it means and when it would run appears here.</p>`}</div>
    ${text('timezone', 'Time zone', { attributes: { list: 'zones', autocomplete: 'off' } })}<datalist id="zones">${(Intl.supportedValuesOf?.('timeZone') ?? []).map((zone) => html`<option value=${zone}/>`)}</datalist>
    <div class="field"><label for="schedule-function">Function</label><select id="schedule-function" onChange=${choose}>${['', ...functions.map((one) => one.name)].map((one) => html`<option value=${one} selected=${one === rule.function}>${one || 'choose'}</option>`)}</select></div>
    ${chosen && (named ? html`<fieldset><legend>Arguments</legend><${ArgumentsForm} key=${rule.function} schema=${chosen.arguments} value=${named} onChange=${(value, found) => { set({ args: [], kwargs: value }); setErrors(found) }}/></fieldset>`
      : html`<${JsonField} label="Arguments as JSON" value=${{ args: rule.args, kwargs: rule.kwargs }} onChange=${(value) => (value?.kwargs ? set({ args: value.args ?? [], kwargs: value.kwargs }) : null)}/>`)}
    <details class="more"><summary>More</summary><div class="pair">${select('overlap', 'If the last run is not over', ['allow', 'skip', 'buffer_one'])}${select('catch_up', 'What was missed', ['none', 'one', 'all'])}</div>
      <div class="pair">${text('queue', 'Queue')}${text('jitter', 'Jitter')}</div><div class="pair">${text('max_runs', 'Runs at most', { number: true, attributes: { inputmode: 'numeric' } })}${text('pause_on_failure', 'Paused after so many failures', { number: true, attributes: { inputmode: 'numeric' } })}</div>
      <div class="pair">${text('start', 'From', { attributes: { placeholder: '2027-01-01T00:00:00Z' } })}${text('end', 'To', { attributes: { placeholder: '2027-12-31T00:00:00Z' } })}</div>${text('description', 'Description')}</details>
    ${error && html`<${Failure} error=${error}/>`}</div>
    <div class="dialog-foot">${missing && html`<span class="muted">${missing}</span>`}<button onClick=${close}>${schedule ? 'Keep as it is' : 'Close'}</button><${Action} kind="primary" disabled=${Boolean(missing)} run=${save}>${schedule ? 'Save' : 'Make it'}</${Action}></div>`
}
