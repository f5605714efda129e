// What has changed, from one event stream for all tabs of the browser. Hidden tabs hold none.

import { signal } from '@preact/signals'

const LOCK = 'jobline-events'
const BATCH = 250 // milliseconds in which changes are collected
const MOST = 200 // changes of one batch that are told one by one
const FLOOD = 1000 // events in a second that are better not received at all
const REST = 5 // seconds without a stream after a flood

export const state = signal('off') // live, polling or off

const listeners = new Set()
const channel = 'BroadcastChannel' in window ? new BroadcastChannel('jobline') : null
let headers = () => ({})
let running = null

/** Calls `listener` with {all, ids, queues} after events; `all`: something changed, nobody knows what. */
export function onChange(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export function startLive(makeHeaders) {
  headers = makeHeaders
  channel?.addEventListener('message', ({ data }) => {
    if (data.state) state.value = data.state
    else dispatch(data)
  })
  document.addEventListener('visibilitychange', restart)
  addEventListener('pagehide', () => running?.abort())
  restart()
}

/** Begin anew: the tab was shown or hidden, or the key is another one. */
export function restart() {
  running?.abort()
  running = null
  if (document.hidden) return
  const abort = (running = new AbortController())
  const lead = () => follow(abort.signal).catch(() => {})
  if (!navigator.locks) return void lead() // only pages of https and of this machine have locks
  navigator.locks.request(LOCK, { signal: abort.signal }, lead).catch(() => {})
}

function dispatch(change) {
  for (const listener of [...listeners]) listener(change)
}

function tell(change) {
  channel?.postMessage(change)
  dispatch(change)
}

function say(now) {
  state.value = now
  channel?.postMessage({ state: now })
}

const pause = (seconds, abort) => new Promise((resolve) => {
  const timer = setTimeout(resolve, seconds * 1000)
  abort.addEventListener('abort', () => { clearTimeout(timer); resolve() }, { once: true })
})

async function follow(abort) {
  let failures = 0
  while (!abort.aborted) {
    let wait = Math.min(30, 2 ** failures)
    try {
      const response = await fetch('/api/v1/events', { headers: headers(), credentials: 'omit', signal: abort })
      if (response.ok) {
        if (failures) tell({ all: true })
        failures = 0
        say('live')
        wait = (await read(response.body, abort)) ? 1 : 0
      } else {
        await response.body?.cancel()
        if (response.status === 401 || response.status === 403) return say('off')
        wait = Math.max(wait, Number(response.headers.get('Retry-After')) || 0)
        failures++
      }
    } catch { failures++ }
    if (abort.aborted) return
    say('polling')
    tell({ all: true }) // the service may be away: look at once
    if (wait) await pause(wait, abort)
    else await restAfterFlood(abort)
  }
}

async function restAfterFlood(abort) {
  for (let second = 0; second < REST && !abort.aborted; second++) {
    tell({ all: true })
    await pause(1, abort)
  }
}

/** Reads the stream. False if it was left because of a flood of events. */
async function read(body, abort) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = '', seen = 0, second = Date.now(), batch = null
  const flush = () => {
    if (batch && !abort.aborted) tell(batch.count > MOST ? { all: true } : { ids: [...batch.ids], queues: [...batch.queues] })
    batch = null
  }
  for (;;) {
    const { value, done } = await reader.read()
    if (done) break
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue
      if (!batch) {
        batch = { count: 0, ids: new Set(), queues: new Set() }
        setTimeout(flush, BATCH)
      }
      seen++
      if (++batch.count > MOST) continue
      try {
        const { id, queue } = JSON.parse(line.slice(6))
        batch.ids.add(id)
        batch.queues.add(queue)
      } catch { batch.count = MOST + 1 }
    }
    if (Date.now() - second > 1000) { seen = 0; second = Date.now() }
    if (seen > FLOOD) {
      await reader.cancel()
      return false
    }
  }
  return true
}
