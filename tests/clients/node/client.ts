// A client that knows nothing of contexts: TypeORM with node-postgres as pandom_service.
//
// Prints one JSON object: what each step found. Columns that the database fills or that
// this client does not need are left out; synchronize is false, so that is safe.
import "reflect-metadata";
import { readFileSync } from "node:fs";
import {
  Column,
  CreateDateColumn,
  DataSource,
  Entity,
  JoinColumn,
  ManyToOne,
  OneToOne,
  PrimaryGeneratedColumn,
  UpdateDateColumn,
} from "typeorm";

@Entity("user_profiles")
class UserProfile {
  @PrimaryGeneratedColumn("uuid")
  uuid!: string;

  @Column("text", { array: true })
  tags!: string[];

  @Column("jsonb")
  metadata!: object;

  @OneToOne(() => User, (user) => user.profile)
  user!: User;
}

@Entity("auth_users")
class User {
  @PrimaryGeneratedColumn("uuid")
  uuid!: string;

  @Column("varchar", { length: 255, unique: true })
  email!: string;

  // Hashing is the client's affair as long as it writes the column itself.
  @Column("varchar", { length: 255, select: false })
  password_hash!: string;

  @Column("enum", { enum: ["admin", "user"], enumName: "userrole", default: "user" })
  role!: "admin" | "user";

  @Column("boolean", { default: false })
  is_verified!: boolean;

  @OneToOne(() => UserProfile, (profile) => profile.user, { cascade: true })
  @JoinColumn({ name: "profile_uuid", referencedColumnName: "uuid" })
  profile!: UserProfile;

  @CreateDateColumn({ type: "timestamptz" })
  created_at!: Date;

  @UpdateDateColumn({ type: "timestamptz" })
  updated_at!: Date;
}

@Entity("sessions")
class Session {
  @PrimaryGeneratedColumn("uuid")
  id!: string;

  @ManyToOne(() => User)
  @JoinColumn({ name: "user_uuid", referencedColumnName: "uuid" })
  user!: User;

  @Column("timestamptz")
  expires_at!: Date;
}

const database = new DataSource({
  type: "postgres",
  host: process.env.DB_HOST,
  port: Number(process.env.DB_PORT),
  username: process.env.DB_USERNAME,
  password: process.env.DB_PASSWORD,
  database: process.env.DB_DATABASE,
  ssl: { ca: readFileSync(process.env.DB_SSLROOTCERT!, "utf8") },
  extra: {
    max: Number(process.env.DB_POOL_MAX),
    connectionTimeoutMillis: Number(process.env.DB_CONNECT_TIMEOUT_MS),
    idleTimeoutMillis: Number(process.env.DB_IDLE_TIMEOUT_MS),
  },
  entities: [User, UserProfile, Session],
  synchronize: false,
  installExtensions: false,
});

async function main(): Promise<object> {
  const email = process.argv[2];
  const users = database.getRepository(User);
  const made = await users.save({
    email,
    password_hash: process.argv[3],
    profile: { tags: ["developer"], metadata: { theme: "dark" } },
  });

  const found = await users.findOneOrFail({ where: { email }, relations: { profile: true } });
  found.is_verified = true;
  found.profile.tags = [...found.profile.tags, "reader"];
  await users.save(found);

  const changed = await users.findOneOrFail({ where: { email }, relations: { profile: true } });
  const listed = await users.find({ relations: { profile: true }, order: { email: "ASC" } });
  const sessions = await database.getRepository(Session).count();
  const profile = changed.profile.uuid;
  await users.remove(changed);
  return {
    uuid: made.uuid,
    role: found.role,
    verified: changed.is_verified,
    tags: changed.profile.tags,
    metadata: changed.profile.metadata,
    listed: listed.map((user) => user.email),
    sessions,
    left: await users.count({ where: { email } }),
    profiles: await database.getRepository(UserProfile).count({ where: { uuid: profile } }),
  };
}

database
  .initialize()
  .then(main)
  .then((result) => console.log(JSON.stringify(result)))
  .catch((error: Error) => {
    console.error(`${error.name}: ${error.message}`);
    process.exitCode = 1;
  })
  .finally(() => (database.isInitialized ? database.destroy() : undefined));
