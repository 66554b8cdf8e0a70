import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [react()],
  // The demo allows one origin (WEB_ORIGIN): on another port, the hub would refuse the page.
  server: { port: 5173, strictPort: true },
})
