// A small application: it signs in as pandom_app, and row security says whose rows it sees.
import { DataSource, EntityManager } from "typeorm";

export const connect = (url: string): Promise<DataSource> =>
  new DataSource({ type: "postgres", url }).initialize();

// The work is done in a transaction, in the name of whoever the session belongs to.
export const as = <T>(
  source: DataSource,
  session: string,
  work: (manager: EntityManager) => Promise<T>,
): Promise<T> =>
  source.transaction(async (manager) => {
    await manager.query("select public.begin_context($1)", [session]);
    return work(manager);
  });

export const label = (manager: EntityManager, tags: string[]): Promise<unknown> =>
  manager.query("update public.user_profiles set tags = $1", [tags]);

export const account = async (manager: EntityManager): Promise<unknown[]> =>
  manager.query(
    "select email, tags from public.auth_users join public.user_profiles as p on p.uuid = profile_uuid",
  );
