import type { Call } from "#lib/grpc-server.ts";
import { uuidToId } from "#lib/ids.ts";
import {
  type ExportUserRequest,
  type LoginEvent,
  User_Status,
  type UserExport,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { Account_Kind, Account_Status } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/identity/context.ts";
import { accountsOf } from "#services/identity/ledger-accounts.ts";
import { listDevices } from "#services/identity/list-devices.ts";
import { listFundingSources } from "#services/identity/list-funding-sources.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { type Self, selfOf } from "#services/identity/self.ts";
import { SESSION_COLUMNS, type SessionRow, toSession } from "#services/identity/session.ts";

const MAX_SESSIONS = 1_000;
const MAX_LOGIN_EVENTS = 5_000;

export async function exportUser(ctx: Context, _request: ExportUserRequest, call: Call): Promise<UserExport> {
  const self = selfOf(call);
  const user = await readUser(ctx, self);
  if (user.status !== User_Status.ACTIVE) throw refusals.userNotFound();
  const sessions = await ctx
    .shardOfBucket(self.bucket)
    .read<SessionRow>(
      `select ${SESSION_COLUMNS} from identity.sessions where user_id = $1 order by session_id desc limit $2`,
      [self.userUuid, MAX_SESSIONS],
    );
  const { devices } = await listDevices(ctx, {}, call);
  const { fundingSources } = await listFundingSources(ctx, {}, call);
  const accounts = await accountsOf(ctx, call, self.userId);
  return {
    exportTime: new Date(ctx.nowMs()),
    user,
    sessions: sessions.map((row) => toSession(row, self)),
    devices,
    fundingSources,
    loginEvents: await readLoginEvents(ctx, self),
    accounts: accounts.map(({ accountId, currency, kind, status, postedMinorUnits }) => ({
      accountId,
      currency,
      kind: nameOf(Account_Kind, kind),
      status: nameOf(Account_Status, status),
      postedMinorUnits,
    })),
  };
}

async function readLoginEvents(ctx: Context, self: Self): Promise<LoginEvent[]> {
  const rows = await ctx.shardOfBucket(self.bucket).read<{
    login_event_id: string;
    success: boolean;
    failure: string;
    session_id: string | null;
    address: string;
    user_agent: string;
    occurred_at: Date;
  }>(
    `select login_event_id, success, failure, session_id, address, user_agent, occurred_at from identity.login_events
      where user_id = $1 order by occurred_at desc limit $2`,
    [self.userUuid, MAX_LOGIN_EVENTS],
  );
  return rows.map((row) => ({
    loginEventId: uuidToId("logn", row.login_event_id),
    success: row.success,
    failure: row.failure,
    sessionId: row.session_id === null ? "" : uuidToId("sess", row.session_id),
    address: row.address,
    userAgent: row.user_agent,
    time: row.occurred_at,
  }));
}

function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(names).find((name) => names[name] === value) ?? value.toString();
}
