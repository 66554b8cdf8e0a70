// A server file: it has no "use client" of its own.
import { RoomwireProvider } from "@roomwire/sdk/react";
import { Rooms } from "./rooms";
import { roomwire } from "./roomwire";

export default function Page() {
  return (
    <RoomwireProvider roomwire={roomwire}>
      <Rooms />
    </RoomwireProvider>
  );
}
