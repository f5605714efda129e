// The URL as a signal, and links that do not load the page anew.

import { signal } from '@preact/signals'

const OWN = /^\/($|(functions|jobs|failures|queues|workers|schedules|workflows|webhooks|audit)(\/|$))/

const decoded = (part) => { try { return decodeURIComponent(part) } catch { return part } }

const current = () => ({
  parts: location.pathname.split('/').filter(Boolean).map(decoded),
  query: new URLSearchParams(location.search),
  url: location.pathname + location.search,
})

export const route = signal(current())

export function go(url, { replace = false } = {}) {
  if (url === route.value.url) return
  const samePage = new URL(url, location.href).pathname === location.pathname
  history[replace ? 'replaceState' : 'pushState'](null, '', url)
  route.value = current()
  if (!replace && !samePage) {
    scrollTo(0, 0)
    requestAnimationFrame(() => document.querySelector('h1')?.focus({ preventScroll: true }))
  }
}

/** A URL of the console from a path and its parameters; empty ones are left out. */
export function to(path, query = {}) {
  const filled = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== '')
  return filled.length ? `${path}?${new URLSearchParams(filled)}` : path
}

export const part = encodeURIComponent

export function start() {
  addEventListener('popstate', () => { route.value = current() })
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href]')
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return
    if (link.target || link.origin !== location.origin || !OWN.test(link.pathname) || link.hasAttribute('download')) return
    event.preventDefault()
    go(link.pathname + link.search)
  })
}
