import type { Random } from "../runtime/random.ts";
import { memoryTransport } from "../transport/memory.ts";
import type { Connection } from "../transport/transport.ts";
import type { Life, VirtualTime } from "./time.ts";

/** What may happen to a message on its way, in thousandths. */
export interface NetworkFaults {
  readonly drop: number;
  readonly double: number;
  readonly delay: number;
  readonly cut: number;
}

export const calm: NetworkFaults = { drop: 0, double: 0, delay: 0, cut: 0 };
const delayMsMax = 4_000;

/**
 * A network over the in-memory transport. Bytes take some milliseconds; messages are dropped, doubled, delayed past later
 * ones; connections are cut. What is under way when its sender dies still arrives.
 *
 * @param onMessage told of every message that arrives, before it is heard: crashes happen at random messages.
 */
export function simulatedNetwork(
  time: VirtualTime,
  random: Random,
  faults: () => NetworkFaults,
  onMessage: () => void,
) {
  const transport = memoryTransport({
    clock: time,
    later: (work) => void time.at(time.now() + random.integer(4), work),
  });
  const happens = (perMille: number): boolean => random.integer(1_000) < perMille;
  return {
    transport,
    /** One end of a connection, as the process that lives `life` has it. `change` rewrites what arrives. */
    end(connection: Connection, life: Life, change: (message: unknown) => unknown = (message) => message): Connection {
      let isCut = false;
      const cut = (): void => {
        isCut = true;
        connection.close();
      };
      life.onKill(cut);
      return {
        ...connection,
        get bufferedBytes() {
          return connection.bufferedBytes;
        },
        send(message) {
          if (!isCut && life.isAlive) connection.send(message);
        },
        onMessage(handler) {
          const hear = (message: unknown): void => {
            if (!life.isAlive) return;
            onMessage();
            if (life.isAlive) void handler(change(message));
          };
          connection.onMessage((message) => {
            const { drop, double, delay, cut: cutting } = faults();
            if (happens(cutting)) return cut();
            if (happens(drop)) return;
            if (happens(double)) time.at(time.now() + random.integer(500), () => hear(message));
            if (happens(delay)) time.at(time.now() + random.integer(delayMsMax), () => hear(message));
            else hear(message);
          });
        },
      };
    },
  };
}
