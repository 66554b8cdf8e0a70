import { Component, type ReactNode } from 'react'
import { Mark } from './icons.js'
import { ProblemNote } from './problem-note.js'

interface MishapProps {
  readonly children: ReactNode
}

/** What is left of the page when a part of it fails: words and a way on, instead of nothing. */
export class Mishap extends Component<MishapProps, { readonly failed: boolean }> {
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
            Load it anew
          </button>
        </div>
      </main>
    )
  }
}
