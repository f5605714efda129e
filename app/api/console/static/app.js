// The console: its frame, its pages, and the keyboard.

import { render } from 'preact'
import { useEffect, useId, useState } from 'preact/hooks'
import { away, key, authorization, learnScopes, login, refresh, scopes, setKey, useResource } from './lib/api.js'
import { restart, startLive, state as live } from './lib/live.js'
import { go, route, start as startRouter } from './lib/router.js'
import { theme, toggleTheme } from './lib/theme.js'
import { Boundary, Dialogs, Empty, Page, Toasts, closeDialogs, dialogIsOpen, html, openDialog } from './lib/ui.js'
import { count, short } from './lib/format.js'
import { Overview } from './pages/overview.js'
import { FunctionPage, Functions } from './pages/functions.js'
import { Jobs } from './pages/jobs.js'
import { JobPage } from './pages/job.js'
import { Failures } from './pages/failures.js'
import { Queues } from './pages/queues.js'
import { WorkerPage, Workers } from './pages/workers.js'
import { SchedulePage, Schedules } from './pages/schedules.js'
import { WorkflowPage, Workflows } from './pages/workflows.js'
import { Webhooks } from './pages/webhooks.js'
import { Audit } from './pages/audit.js'

const PAGES = [
  { path: '', name: 'Overview', letter: 'o', list: Overview },
  { path: 'functions', name: 'Functions', letter: 'f', list: Functions, one: FunctionPage },
  { path: 'jobs', name: 'Jobs', letter: 'j', list: Jobs, one: JobPage },
  { path: 'failures', name: 'Failures', letter: 'e', list: Failures },
  { path: 'queues', name: 'Queues', letter: 'q', list: Queues },
  { path: 'workers', name: 'Workers', letter: 'w', list: Workers, one: WorkerPage },
  { path: 'schedules', name: 'Schedules', letter: 's', list: Schedules, one: SchedulePage },
  { path: 'workflows', name: 'Workflows', letter: 'l', list: Workflows, one: WorkflowPage },
  { path: 'webhooks', name: 'Webhooks', letter: 'h', list: Webhooks },
  { path: 'audit', name: 'Audit', letter: 'a', list: Audit, scope: 'admin' },
]
const GO_SECONDS = 1.5 // in which the letter must follow the g

function App() {
  if (login.value) return html`<${Login}/>`
  if (key.value && scopes.value.size && !scopes.value.has('read') && !scopes.value.has('admin')) return html`<${Login} why="This key may not read: the console needs the scope read."/>`
  const [name = '', ...rest] = route.value.parts
  const page = PAGES.find((one) => one.path === name)
  const shown = rest.length ? page?.one : page?.list
  return html`<a class="skip" href="#main">To the content</a>
    <${Sidebar} active=${page}/>
    <main id="main">
      ${away.value && html`<div class="notice bad away" role="alert"><p>${away.value} What you see may be old. Trying again…</p></div>`}
      <${Boundary} key=${route.value.parts.join('/')}>${shown
        ? html`<${shown} name=${rest[0]}/>`
        : html`<${Page} title="Not found"><${Empty} title="There is no such page."><p><a href="/">Overview</a></p></${Empty}></${Page}>`}</${Boundary}>
    </main>
    <${Dialogs}/><${Toasts}/>`
}

function Sidebar({ active }) {
  const queues = useResource('/queues', { every: 10 }).data?.queues ?? []
  const failed = queues.reduce((sum, queue) => sum + queue.counts.failed, 0)
  const waiting = queues.reduce((sum, queue) => sum + queue.counts.queued, 0)
  useEffect(() => { document.querySelector('.sidebar [aria-current]')?.scrollIntoView({ inline: 'nearest', block: 'nearest' }) }, [active])
  const numbers = { jobs: waiting, failures: failed }
  const offered = PAGES.filter((page) => !page.scope || scopes.value.has(page.scope))
  return html`<nav class="sidebar" aria-label="Pages">
    <a class="brand" href="/"><svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true"><rect width="16" height="16" rx="4"/><path d="M4 5h8M4 8h5M4 11h7"/></svg>Jobline</a>
    <ul>${offered.map((page) => html`<li key=${page.path}><a href=${`/${page.path}`} aria-current=${page === active ? 'page' : undefined}>${page.name}${
      numbers[page.path] ? html`<span class=${page.path === 'failures' ? 'number bad' : 'number'} title=${`${count(numbers[page.path])} ${page.path === 'jobs' ? 'wait' : 'failed'}`}>${short(numbers[page.path])}</span>` : null}</a></li>`)}</ul>
    <div class="foot">
      <span class=${`live ${live.value}`} title=${live.value === 'live' ? 'Changes are shown as they happen' : 'Changes are looked for every few seconds'}><i aria-hidden="true"></i>${live.value === 'live' ? 'live' : 'polling'}</span>
      <button class="plain" onClick=${toggleTheme} aria-label=${theme.value === 'dark' ? 'Light colours' : 'Dark colours'} title=${theme.value === 'dark' ? 'Light colours' : 'Dark colours'}>${theme.value === 'dark' ? '☀' : '☾'}</button>
      <button class="plain" onClick=${showHelp} aria-label="Keyboard" title="Keyboard">?</button>
      ${key.value && html`<button class="plain" onClick=${() => setKey('').then(restart)}>Log out</button>`}
      <div class="elsewhere"><a href="/docs">API</a><a href="/dashboard/">rq-dashboard</a></div>
    </div></nav>`
}

function Login({ why = '' }) {
  const [given, setGiven] = useState(''), id = useId()
  useEffect(() => { document.title = 'Log in · Jobline'; document.getElementById(id)?.focus() }, [])
  const submit = (event) => {
    event.preventDefault()
    if (given.trim()) setKey(given.trim()).then(restart)
  }
  return html`<main class="login"><form onSubmit=${submit}><h1>Jobline</h1>
    <p role="alert">${why || login.value}</p>
    <label for=${id}>API key</label><input id=${id} class="mono" type="password" autocomplete="off" value=${given} onInput=${(event) => setGiven(event.target.value)}/>
    <button class="primary" type="submit">Log in</button>
    <p class="muted">The key is kept in this tab until it is closed. It needs the scope <code>read</code>; buttons appear for what else it may do.</p></form></main>`
}

function showHelp() {
  if (dialogIsOpen()) return
  openDialog('Keyboard', () => html`<div class="dialog-body"><dl class="facts keys">
    <div><dt><kbd>/</kbd></dt><dd>search, on the page of jobs</dd></div><div><dt><kbd>?</kbd></dt><dd>this help</dd></div><div><dt><kbd>r</kbd></dt><dd>load anew</dd></div><div><dt><kbd>t</kbd></dt><dd>light or dark</dd></div>
    ${PAGES.map((page) => html`<div><dt><kbd>g</kbd> <kbd>${page.letter}</kbd></dt><dd>${page.name}</dd></div>`)}</dl></div>`)
}

let wentAt = 0

function onKey(event) {
  if (event.metaKey || event.ctrlKey || event.altKey || event.target.closest?.('input, textarea, select, [contenteditable]') || dialogIsOpen()) return
  if (Date.now() - wentAt < GO_SECONDS * 1000) {
    const page = PAGES.find((one) => one.letter === event.key)
    wentAt = 0
    if (page) { event.preventDefault(); go(`/${page.path}`) }
  } else if (event.key === 'g') wentAt = Date.now()
  else if (event.key === '?') showHelp()
  else if (event.key === 'r') refresh()
  else if (event.key === 't') toggleTheme()
  else if (event.key === '/') {
    event.preventDefault()
    const box = document.querySelector('[data-search]')
    if (box) box.focus()
    else { go('/jobs'); requestAnimationFrame(() => document.querySelector('[data-search]')?.focus()) }
  }
}

startRouter()
startLive(authorization)
route.subscribe(closeDialogs)
document.addEventListener('keydown', onKey)
render(html`<${App}/>`, document.getElementById('app'))
learnScopes()
let wasAway = false
away.subscribe((why) => {
  if (wasAway && !why) { refresh(); if (!scopes.value.size && !login.value) learnScopes() }
  wasAway = Boolean(why)
})
