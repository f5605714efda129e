// What all pages share: texts, times, badges, tables, dialogs.

import { h } from 'preact'
import { useEffect, useErrorBoundary, useId, useRef, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import htm from 'htm'
import { Problem, refresh } from './api.js'
import { ago, count, moment, visible } from './format.js'
import { Exact, stringify } from './json.js'
import { part } from './router.js'

const shown = (child) => (typeof child === 'string' ? visible(child) : child instanceof Exact ? child.text : child)

/** Markup of the console. Every text in it is shown as text, with controls as escape codes. */
export const html = htm.bind((type, props, ...children) => {
  if (props && typeof props.title === 'string') props.title = visible(props.title)
  return h(type, props, ...children.map(shown))
})

export const now = signal(Date.now())
setInterval(() => { if (!document.hidden) now.value = Date.now() }, 1000)

/** A time in the reader's zone; the title has UTC. */
export function Time({ at, relative = false }) {
  if (!at) return html`<span class="faint">–</span>`
  return html`<time datetime=${at} title=${at.replace('T', ' ').replace('Z', ' UTC')}>
    ${relative ? ago(at, now.value) : moment(at)}</time>`
}

export const TONES = {
  finished: 'good', failed: 'bad', stopped: 'warn', canceled: 'plain', started: 'busy', running: 'busy', queued: 'plain',
  scheduled: 'plain', deferred: 'plain', retried: 'warn', busy: 'busy', idle: 'plain', suspended: 'warn', paused: 'warn',
  late: 'bad', broken: 'bad', on: 'good',
}

export const Badge = ({ of, children }) =>
  html`<span class=${`badge ${TONES[of] ?? 'plain'}`}><i aria-hidden="true"></i>${children ?? of}</span>`

export const JobLink = ({ id }) => html`<a class="mono" href=${`/jobs/${part(id)}`}>${id}</a>`

export const FunctionLink = ({ name }) =>
  name ? html`<a class="mono" href=${`/functions/${part(name)}`}>${name}</a>` : html`<span class="faint">unreadable</span>`

export function Page({ title, lead, actions, children, kicker }) {
  useEffect(() => { document.title = `${title} · Jobline` }, [title])
  return html`<div class="page">
    <header class="head">
      <div>${kicker && html`<p class="kicker">${kicker}</p>`}<h1 tabindex="-1">${title}</h1>${lead && html`<div class="lead">${lead}</div>`}</div>
      ${actions && html`<div class="actions">${actions}</div>`}
    </header>
    ${children}</div>`
}

export const Panel = ({ title, side, children, flush = false }) => html`<section class=${flush ? 'panel flush' : 'panel'}>
  ${title && html`<div class="panel-head"><h2>${title}</h2>${side && html`<div class="side">${side}</div>`}</div>`}
  ${children}</section>`

export const Empty = ({ title, children }) => html`<div class="empty"><p class="strong">${title}</p>${children}</div>`

export const Curl = ({ path = '/functions/demo.add/jobs', body = '{"a": 1, "b": 2}' }) => html`<${Code} text=${
  `curl -s ${location.origin}/api/v1${path} \\\n  -H 'Content-Type: application/json' -d '${body}'`}/>`

export const Loading = () => html`<div class="loading" role="status">Loading…</div>`

/** The content if there is data; else the error, or that it is being loaded. */
export function Ready({ of: { data, error }, children, missing }) {
  if (data !== undefined) return children(data)
  if (error?.status === 404 && missing) return missing
  if (error) return html`<${Failure} error=${error}/>`
  return html`<${Loading}/>`
}

export const Failure = ({ error }) => html`<div class="notice bad" role="alert">
  <p>${error.status === 403 ? 'This key may not see this.' : error.message}</p>
  ${error.errors?.length ? html`<ul>${error.errors.map((item) => html`<li>${item.detail} <code>${item.pointer}</code></li>`)}</ul>` : null}</div>`

export function Boundary({ children }) {
  const [error, reset] = useErrorBoundary((caught) => console.error(caught))
  if (!error) return children
  return html`<div class="notice bad" role="alert"><p>This part could not be shown: ${String(error.message ?? error)}</p>
    <button onClick=${reset}>Try again</button></div>`
}

export function Code({ text, label = 'Text' }) {
  return html`<pre class="code" tabindex="0" aria-label=${label}>${text}</pre>`
}

/** JSON with every control escaped and every number as it was read. */
export function Json({ value, label = 'JSON' }) {
  const [all, setAll] = useState(false)
  const text = stringify(value, 2), long = text.length > 4000 && !all
  return html`<${Code} text=${long ? text.slice(0, 4000) : text} label=${label}/>
    ${long && html`<button class="small" onClick=${() => setAll(true)}>Show all ${count(text.length)} characters</button>`}`
}

export const Facts = ({ items }) => html`<dl class="facts">${items.filter(([, value]) => value !== null && value !== undefined && value !== '')
  .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`

/** A table. `columns`: {name, cell(row), number, sort(row)}; one with `sort` can be sorted by. */
export function Table({ columns, rows, label, keyOf, initial = null, empty = null, selectable }) {
  const [order, setOrder] = useState(initial)
  let sorted = rows
  if (order) {
    const { sort } = columns.find((column) => column.name === order.name) ?? {}
    if (sort) sorted = [...rows].sort((a, b) => compare(sort(a), sort(b)) * (order.down ? -1 : 1))
  }
  if (!rows.length && empty) return empty
  const turn = (column) => setOrder({ name: column.name, down: order?.name === column.name ? !order.down : Boolean(column.number) })
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr>${columns.map((column) => {
      const active = order?.name === column.name
      return html`<th scope="col" class=${column.number ? 'number' : ''} aria-sort=${active ? (order.down ? 'descending' : 'ascending') : undefined}>
        ${column.sort ? html`<button class="sort" onClick=${() => turn(column)}>${column.name}<span aria-hidden="true">${active ? (order.down ? ' ↓' : ' ↑') : ''}</span></button>`
          : column.hidden ? html`<span class="unseen">${column.name}</span>` : column.name}</th>`
    })}</tr></thead>
    <tbody>${sorted.map((row, index) => html`<tr key=${keyOf ? keyOf(row) : index} class=${selectable?.(row) ? 'marked' : ''}>${columns.map((column) =>
      html`<td class=${`${column.number ? 'number' : ''} ${column.class ?? ''}`}>${column.cell(row)}</td>`)}</tr>`)}</tbody>
  </table></div>`
}

function compare(a, b) {
  if (a === b) return 0
  if (a === null || a === undefined) return -1
  if (b === null || b === undefined) return 1
  return a < b ? -1 : 1
}

// ---- dialogs and messages

const dialogs = signal([])
const toasts = signal([])
let lastToast = 0

/** Opens a dialog. `content` is called with a function that closes it. */
export function openDialog(title, content) {
  const dialog = { title, content }
  dialog.close = () => { dialogs.value = dialogs.value.filter((other) => other !== dialog) }
  dialogs.value = [...dialogs.value, dialog]
}

export const closeDialogs = () => { dialogs.value = [] }
export const dialogIsOpen = () => dialogs.value.length > 0

export function say(text, tone = 'good', link = null) {
  const toast = { id: ++lastToast, text, tone, link }
  toasts.value = [...toasts.value.slice(-3), toast]
  setTimeout(() => { toasts.value = toasts.value.filter((other) => other !== toast) }, tone === 'bad' ? 12_000 : 6_000)
}

export const sayProblem = (error) => say(
  [error.message, ...(error.errors ?? []).slice(0, 3).map((item) => item.detail)].join(': '), 'bad')

export const Dialogs = () => html`${dialogs.value.map((dialog) => html`<${Dialog} key=${dialog} dialog=${dialog}/>`)}`

function Dialog({ dialog }) {
  const ref = useRef(), id = useId()
  useEffect(() => {
    ref.current.showModal()
    ref.current.querySelector('.dialog-body :is(input, textarea, select), .dialog-foot button')?.focus()
  }, [])
  return html`<dialog ref=${ref} aria-labelledby=${id} onClose=${dialog.close}>
    <div class="dialog-head"><h2 id=${id}>${dialog.title}</h2><button class="plain" aria-label="Close" onClick=${dialog.close}>✕</button></div>
    <${Boundary}>${dialog.content(dialog.close)}</${Boundary}></dialog>`
}

export const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">${toasts.value.map((toast) =>
  html`<div key=${toast.id} class=${`toast ${toast.tone}`}><span>${toast.text}</span>${toast.link && html`<a href=${toast.link.href}>${toast.link.text}</a>`}</div>`)}</div>`

/** A button that cannot be pressed again while its action runs. */
export function Action({ run, children, kind = '', disabled = false, title }) {
  const [busy, setBusy] = useState(false)
  const alive = useRef(true)
  useEffect(() => () => { alive.current = false }, [])
  const press = async () => {
    if (busy) return
    setBusy(true)
    try { await run() } catch (error) {
      if (!(error instanceof Problem)) console.error(error)
      sayProblem(error)
    }
    if (alive.current) setBusy(false)
  }
  return html`<button type="button" class=${kind} title=${title} disabled=${disabled || busy} aria-busy=${busy} onClick=${press}>${children}</button>`
}

/** Asks before `run`. With `typed`, this text must be typed first. */
export function confirm({ title, text, label, run, typed = null }) {
  openDialog(title, (close) => html`<${Confirm} ...${{ text, label, run, typed, close }}/>`)
}

function Confirm({ text, label, run, typed, close }) {
  const [given, setGiven] = useState(''), id = useId()
  return html`<div class="dialog-body"><div>${text}</div>
    ${typed && html`<label for=${id}>Type <code>${typed}</code> to confirm</label>
      <input id=${id} class="mono" autocomplete="off" value=${given} onInput=${(event) => setGiven(event.target.value)}/>`}</div>
    <div class="dialog-foot"><button onClick=${close}>Keep as it is</button>
    <${Action} kind="danger" disabled=${typed !== null && given !== typed} run=${async () => { await run(); close(); refresh() }}>${label}</${Action}></div>`
}

/** Does something at once, says so, and loads the page's data anew. */
export async function act(request, text, link) {
  await request
  say(text, 'good', link)
  refresh()
}
