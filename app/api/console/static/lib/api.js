// Requests to the public API, with the reader's key, and resources that stay up to date while they are shown.

import { signal } from '@preact/signals'
import { useEffect, useState } from 'preact/hooks'
import { onChange } from './live.js'
import { parse, stringify } from './json.js'

const API = '/api/v1'
const STORED_KEY = 'jobline.key'
const MAX_WAIT = 30 // seconds between attempts while the service is away

export const key = signal(sessionStorage.getItem(STORED_KEY) ?? '')
export const login = signal('') // why a key is asked for; '' if it is not
export const away = signal('') // why the service does not answer; '' if it does
export const scopes = signal(new Set()) // what the key may do

/** An answer that is an error (RFC 9457), or none at all (status 0). */
export class Problem extends Error {
  constructor(status, detail, errors = [], retryAfter = 0) {
    super(detail)
    Object.assign(this, { status, errors, retryAfter })
  }
}

export const authorization = () => (key.value ? { Authorization: `Bearer ${key.value}` } : {})

export async function send(method, path, { body, headers = {}, signal: abort } = {}) {
  const usedKey = key.value
  let response, text
  try {
    response = await fetch(path.startsWith('/readyz') ? path : API + path, {
      method,
      headers: { ...authorization(), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : stringify(body),
      credentials: 'omit', // else the browser would ask for the key of HTTP Basic by itself
      signal: abort,
    })
    text = await response.text()
  } catch (error) {
    if (error.name === 'AbortError') throw error
    away.value = 'The service does not answer.'
    throw new Problem(0, 'The service does not answer')
  }
  if (response.status === 401) {
    if (usedKey === key.value) login.value = usedKey ? 'This key is not known.' : 'This service asks for an API key.'
  } else if (response.status === 503 && !path.startsWith('/readyz')) away.value = problem(text, 503).message
  else away.value = ''
  if (!response.ok) throw problem(text, response.status, response.headers.get('Retry-After'))
  return text ? parse(text) : null
}

function problem(text, status, retryAfter) {
  let found = {}
  try { found = JSON.parse(text) } catch { /* not ours, such as that of a proxy */ }
  return new Problem(status, found.detail || found.title || `The answer is ${status}`, found.errors, Number(retryAfter))
}

export const get = (path, options) => send('GET', path, options)
export const post = (path, body, headers) => send('POST', path, { body, headers })

export const may = (scope) => scopes.value.has(scope) || scopes.value.has('admin')

/** Asks what the key may do. */
export async function learnScopes() {
  const usedKey = key.value
  let found = []
  try { found = (await get('/key')).scopes } catch { /* `login` or `away` says why */ }
  if (usedKey === key.value && !(login.value || away.value)) scopes.value = new Set(found)
}

export function setKey(given) {
  key.value = given
  if (given) sessionStorage.setItem(STORED_KEY, given)
  else sessionStorage.removeItem(STORED_KEY)
  login.value = ''
  scopes.value = new Set()
  return learnScopes().then(refresh)
}

/** A GET that is repeated while somebody looks: after events, and in any case every so many seconds. */
class Resource {
  constructor(path, { every = 15, gap = 1, live = () => true }) {
    Object.assign(this, { path, every, gap, live, listeners: new Set(), state: { data: undefined, error: null } })
    this.loadedAt = 0
    this.failures = 0
  }

  add(listener) {
    this.listeners.add(listener)
    if (this.listeners.size === 1) {
      this.stop = onChange((change) => { if (change.all || this.live(change)) this.soon() })
      this.shown = () => { if (!document.hidden && Date.now() - this.loadedAt > 1000) this.load() }
      document.addEventListener('visibilitychange', this.shown)
    }
    if (Date.now() - this.loadedAt > 1000) this.load()
    else this.wait(this.every)
  }

  remove(listener) {
    this.listeners.delete(listener)
    if (this.listeners.size) return
    this.stop()
    document.removeEventListener('visibilitychange', this.shown)
    clearTimeout(this.timer)
    this.abort?.abort()
    this.loading = false
  }

  soon() {
    if (this.loading) this.again = true
    else this.wait(Math.max(0, this.gap - (Date.now() - this.loadedAt) / 1000))
  }

  wait(seconds) {
    const due = Date.now() + seconds * 1000
    if (this.timer && this.due <= due) return
    clearTimeout(this.timer)
    this.due = due
    this.timer = setTimeout(() => { this.timer = null; if (!document.hidden) this.load() }, seconds * 1000)
  }

  async load() {
    if (this.loading || !this.listeners.size) return
    clearTimeout(this.timer)
    this.timer = null
    Object.assign(this, { loading: true, again: false, abort: new AbortController() })
    const { abort } = this
    try {
      const data = await get(this.path, { signal: abort.signal })
      this.failures = 0
      this.tell({ data, error: null })
    } catch (error) {
      if (abort.signal.aborted) return
      this.failures++
      this.tell({ data: error.status === 404 ? undefined : this.state.data, error })
    }
    Object.assign(this, { loading: false, loadedAt: Date.now() })
    if (this.failures) this.wait(Math.min(MAX_WAIT, Math.max(this.state.error.retryAfter || 0, 2 ** Math.min(this.failures - 1, 4))))
    else this.wait(this.again ? this.gap : this.every)
  }

  tell(state) {
    this.state = state
    for (const listener of [...this.listeners]) listener(state)
  }
}

const resources = new Map()

/** {data, error} of a GET, kept up to date. `path` null: nothing. */
export function useResource(path, options = {}) {
  const [state, setState] = useState({ path: null })
  useEffect(() => {
    if (!path) return setState({ path })
    let resource = resources.get(path)
    if (!resource) resources.set(path, (resource = new Resource(path, options)))
    const listener = (found) => setState({ path, ...found })
    setState({ path, ...resource.state })
    resource.add(listener)
    return () => {
      resource.remove(listener)
      if (!resource.listeners.size) resources.delete(path)
    }
  }, [path])
  return state.path === path ? state : { data: undefined, error: null }
}

/** Load one resource anew, if it is shown. */
export function reload(path) {
  const resource = resources.get(path)
  if (resource?.loading) resource.again = true
  else resource?.load()
}

/** Load anew whatever is shown, at once: after an action. */
export function refresh() {
  for (const path of resources.keys()) reload(path)
}
