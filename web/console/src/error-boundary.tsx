import { Component, type ReactNode } from 'react'
import { Mark } from './icons.js'
import { ProblemNote } from './problem-note.js'

interface ErrorBoundaryProps {
  readonly children: ReactNode
}

/** Replaces the page when a part of it throws: a message and a button to reload, instead of an empty page. */
export class ErrorBoundary extends Component<ErrorBoundaryProps, { readonly failed: boolean }> {
  override state = { failed: false }

  static getDerivedStateFromError() {
    return { failed: true }
  }

  override render() {
    if (!this.state.failed) return this.props.children
    return (
      <main className="sign-in">
        <div className="sheet">
          <Mark />
          <h1>Roomwire</h1>
          <ProblemNote problem="The page has failed. Nothing in Discord is changed by that." />
          <button type="button" className="primary" onClick={() => window.location.reload()}>
            Load it again
          </button>
        </div>
      </main>
    )
  }
}
