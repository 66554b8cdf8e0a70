"use client";
import { createRoomwire } from "@roomwire/sdk";

export const roomwire = createRoomwire({
  url: "http://127.0.0.1:3000",
  getToken: () => fetch("/token").then((response) => response.text()),
});
