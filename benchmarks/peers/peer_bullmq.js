// BullMQ, results kept: `node peer_bullmq.js` is a worker that runs CONCURRENCY jobs at once, `... fill N` its producer.

const { Queue, Worker } = require("bullmq");
const Redis = require("ioredis");

const SECONDS = Number(process.env.JOB_SECONDS || "0");
const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });

async function noop(job) {
  if (SECONDS) await new Promise((resolve) => setTimeout(resolve, 1000 * SECONDS));
  return job.data.i;
}

async function fill(count) {
  const queue = new Queue("default", { connection });
  for (let first = 0; first < count; first += 1000) {
    const numbers = Array.from({ length: Math.min(1000, count - first) }, (_, index) => first + index);
    await queue.addBulk(numbers.map((i) => ({ name: "noop", data: { i } })));
  }
  console.log(JSON.stringify(count));
  process.exit(0);
}

const [operation, count] = process.argv.slice(2);
if (operation === "fill") fill(Number(count));
else new Worker("default", noop, { connection, concurrency: Number(process.env.CONCURRENCY || "100") });
