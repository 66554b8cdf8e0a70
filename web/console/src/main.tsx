import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './app.js'
import { ErrorBoundary } from './error-boundary.js'
import { applyStoredTheme } from './theme.js'
import './styles/base.css'
import './styles/controls.css'
import './styles/page.css'
import './styles/rooms.css'

applyStoredTheme()
const root = document.getElementById('root')
if (root) {
  createRoot(root).render(
    <StrictMode>
      <ErrorBoundary>
        <App />
      </ErrorBoundary>
    </StrictMode>,
  )
}
