import { useEffect, useState, useSyncExternalStore } from 'react'
import { Icon } from './icons.js'

type Theme = 'light' | 'dark'

const key = 'roomwire.theme'

/** Applies the stored theme before the first render, so that nothing flashes. */
export function applyStoredTheme() {
  const chosen = load()
  if (chosen) document.documentElement.dataset.theme = chosen
}

/** Switches between light and dark. Before the first click, the system's choice applies. */
export function ThemeButton() {
  const [chosen, setChosen] = useState(load)
  const system = useSyncExternalStore(subscribe, systemTheme)
  const theme = chosen ?? system
  useEffect(() => {
    if (chosen) document.documentElement.dataset.theme = chosen
  }, [chosen])

  function turn() {
    const next = theme === 'dark' ? 'light' : 'dark'
    setChosen(next)
    try {
      localStorage.setItem(key, next)
    } catch {
      // A browser may forbid storage; then a reload forgets.
    }
  }

  const words = theme === 'dark' ? 'Light colours' : 'Dark colours'
  return (
    <button type="button" className="quiet round" onClick={turn} aria-label={words} title={words}>
      {theme === 'dark' ? <Icon name="sun" /> : <Icon name="moon" />}
    </button>
  )
}

function load(): Theme | null {
  try {
    const theme = localStorage.getItem(key)
    return theme === 'light' || theme === 'dark' ? theme : null
  } catch {
    return null
  }
}

const prefersDark = '(prefers-color-scheme: dark)'

function systemTheme(): Theme {
  return window.matchMedia(prefersDark).matches ? 'dark' : 'light'
}

function subscribe(changed: () => void) {
  const media = window.matchMedia(prefersDark)
  media.addEventListener('change', changed)
  return () => media.removeEventListener('change', changed)
}
