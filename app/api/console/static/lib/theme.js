// Light, dark, or as the system has it; kept in the browser.

import { effect, signal } from '@preact/signals'

const STORED = 'jobline.theme'
const system = matchMedia('(prefers-color-scheme: dark)')
const chosen = signal(localStorage.getItem(STORED) ?? '')
const systemIsDark = signal(system.matches)
system.addEventListener('change', () => { systemIsDark.value = system.matches })

export const theme = signal('light')

effect(() => {
  const name = chosen.value || (systemIsDark.value ? 'dark' : 'light')
  document.documentElement.dataset.theme = name
  theme.value = name
})

export function toggleTheme() {
  const next = theme.value === 'dark' ? 'light' : 'dark'
  chosen.value = next === (systemIsDark.value ? 'dark' : 'light') ? '' : next
  if (chosen.value) localStorage.setItem(STORED, chosen.value)
  else localStorage.removeItem(STORED)
}
