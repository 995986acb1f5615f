"""The tables as SQLAlchemy models, for applications and for migrations.

Tables, columns, constraints, indexes, and what ``schema/declare.py`` makes of a table: privileges,
policies, triggers. Functions and views are declared in ``schema/sql``, roles in
``schema/access.py``. No login but the dump's reads the account functions' own tables.

Hashes and tokens are deferred: ``pandom_app`` may not read them, and a plain ``select(User)`` must
not ask for them.
"""

from __future__ import annotations

import enum
import uuid as uuid_module
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB, UUID
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, mapped_column, relationship
from sqlalchemy.types import UserDefinedType

from schema import limits
from schema.declare import READABLE, Allow, Table, names_objects, trail

_DIGEST_RULE: Final = "{0} is null or ({0} ~ '^[0-9a-f]{{64}}$' and {1} is not null)"
_NOW: Final = text("CURRENT_TIMESTAMP")
_MOMENT: Final = DateTime(timezone=True)
_DML: Final = "SELECT INSERT UPDATE DELETE"
# The account functions do what the application may not do itself. The service login has the
# source document's DML on all rows; a setting enables it.
_ACCOUNTS: Final = (Allow("pandom_definer", _DML, "all"), Allow("pandom_service", _DML, "all"))
# Read only; the owner's functions write.
_TRAIL: Final = Table(
    owner="pandom_trail",
    owned_by="user_uuid",
    allow=(
        Allow("pandom_app", "SELECT", "own"),
        *(
            Allow(role, "SELECT", "all")
            for role in ("pandom_admin", "pandom_auditor", "pandom_user", "pandom_service")
        ),
    ),
)
# Only the owner's functions and a dump, which must be complete, read these.
_FUNCTIONS_ONLY: Final = Table(
    owner="pandom_definer", allow=(Allow("pandom_user", "SELECT", "all"),)
)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id, which SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return how the type is written in DDL."""
        return "XID8"


# For reflection: `pandom migrate generate` compares columns.
ischema_names["xid8"] = Xid8


class UserRole(enum.Enum):
    """The enumeration ``userrole``."""

    admin = "admin"
    user = "user"


class Base(DeclarativeBase):
    """Every model's base; its metadata is what migrations are compared with."""

    metadata = MetaData()
    __declared__: ClassVar[Table]


class UserProfile(Base):
    """Tags and metadata of a user."""

    __tablename__ = "user_profiles"
    __declared__ = Table(
        owner="pandom_owner",
        owned_by="uuid",
        current="public.current_profile_id()",
        allow=(
            *_ACCOUNTS,
            Allow("pandom_app", "SELECT", "own"),
            Allow("pandom_app", "UPDATE", "own", ("tags", "metadata")),
            Allow("pandom_admin", "SELECT", "all"),
        ),
        trail="audit_profiles_trigger",
    )
    __table_args__ = (
        PrimaryKeyConstraint("uuid", name="pk_user_profiles", comment="One row per profile."),
        CheckConstraint(
            "jsonb_typeof(metadata) = 'object'",
            name="ck_user_profiles_metadata",
            comment="Metadata is a JSON object, never a list or a scalar.",
        ),
        CheckConstraint(
            f"octet_length(metadata::text) <= {limits.METADATA_BYTES}",
            name="ck_user_profiles_metadata_size",
            comment=f"Metadata has at most {limits.METADATA_BYTES} bytes as JSON text.",
        ),
        CheckConstraint(
            f"cardinality(tags) <= {limits.TAGS} "
            f"and octet_length(array_to_string(tags, ',')) <= {limits.TAGS_BYTES}",
            name="ck_user_profiles_tags",
            comment=f"At most {limits.TAGS} tags, together at most {limits.TAGS_BYTES} bytes.",
        ),
        Index(
            "idx_user_profiles_tags",
            "tags",
            postgresql_using="gin",
            info={"comment": "Search by tag: tags @> array[…]."},
        ),
        Index(
            "idx_user_profiles_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            info={"comment": "Search by metadata: metadata @> {…}."},
        ),
        {"comment": "Tags and metadata of a user; one row per user."},
    )

    uuid: Mapped[uuid_module.UUID] = mapped_column(
        UUID,
        server_default=text("gen_random_uuid()"),
        comment="The profile's identity.",
        info=trail("recorded"),
    )
    tags: Mapped[list[str]] = mapped_column(
        ARRAY(Text),
        server_default=text("'{}'"),
        comment="Free labels; searched with @>.",
        info=trail("recorded"),
    )
    # `metadata` is taken by SQLAlchemy on declarative classes; the column keeps its name.
    details: Mapped[dict[str, Any]] = mapped_column(
        "metadata",
        JSONB,
        server_default=text("'{}'"),
        comment="Free data: a JSON object.",
        info={**trail("recorded"), **names_objects("$.objects[*]")},
    )
    created_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When the row was made.", info=trail("ignored")
    )
    updated_at: Mapped[datetime] = mapped_column(
        _MOMENT,
        server_default=_NOW,
        comment="When the row was last changed; set by a trigger.",
        info=trail("ignored"),
    )

    user: Mapped[User | None] = relationship(back_populates="profile")


class User(Base):
    """An account."""

    __tablename__ = "auth_users"
    __declared__ = Table(
        owner="pandom_owner",
        owned_by="uuid",
        allow=(
            *_ACCOUNTS,
            Allow("pandom_definer", "REFERENCES", "all", ("uuid",)),
            Allow("pandom_app", "SELECT", "own", READABLE),
            Allow("pandom_admin", "SELECT", "all", READABLE),
        ),
        trail="audit_users_trigger",
    )
    __table_args__ = (
        PrimaryKeyConstraint("uuid", name="pk_auth_users", comment="One row per account."),
        UniqueConstraint("email", name="uq_auth_users_email", comment="One account per e-mail."),
        UniqueConstraint(
            "profile_uuid", name="uq_auth_users_profile_uuid", comment="1:1 with a profile."
        ),
        ForeignKeyConstraint(
            ["profile_uuid"],
            ["user_profiles.uuid"],
            name="fk_auth_users_profile_uuid_user_profiles",
            ondelete="RESTRICT",
            comment="A profile cannot be deleted while its user exists.",
        ),
        CheckConstraint(
            r"email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'",
            name="ck_auth_users_email",
            comment="The e-mail looks like one.",
        ),
        CheckConstraint(
            "role in ('admin', 'user')",
            name="ck_auth_users_role",
            comment="The role is one of the two, also if the enumeration grows.",
        ),
        CheckConstraint(
            "case when password_hash_encrypted is null "
            r"then password_hash ~ '^\$2a\$[0-3][0-9]\$[./A-Za-z0-9]{53}$' "
            "else password_hash = '*' end",
            name="ck_auth_users_password_hash",
            comment="A bcrypt hash in the form that pgcrypto verifies, or * and the "
            "encrypted one beside it.",
        ),
        CheckConstraint(
            f"octet_length(password_hash_encrypted) <= {limits.ENCRYPTED_HASH_BYTES}",
            name="ck_auth_users_password_hash_encrypted",
            comment="An encrypted hash is as long as one, and no place for other data.",
        ),
        *(
            CheckConstraint(
                _DIGEST_RULE.format(token, expiry),
                name=f"ck_auth_users_{token}",
                comment="A token is stored as a SHA-256 digest and expires.",
            )
            for token, expiry in (
                ("verification_token", "verification_expires"),
                ("reset_token", "reset_token_expiry"),
                ("refresh_token", "refresh_token_expires"),
            )
        ),
        Index(
            "idx_auth_users_email",
            text("lower(email)"),
            unique=True,
            info={"comment": "Sign-in; no two e-mails that differ only by case."},
        ),
        Index(
            "idx_auth_users_role",
            "role",
            postgresql_where=text("role = 'admin'"),
            info={"comment": "The few administrators."},
        ),
        Index(
            "idx_auth_users_active",
            text("created_at DESC"),
            postgresql_where=text("is_active"),
            info={"comment": "Newest active accounts."},
        ),
        *(
            Index(
                f"idx_auth_users_{name}",
                column,
                postgresql_where=text(f"{column} is not null"),
                info={"comment": f"Looks a {column} up; most rows have none."},
            )
            for name, column in (
                ("verification", "verification_token"),
                ("reset", "reset_token"),
                ("refresh", "refresh_token"),
            )
        ),
        Index(
            "idx_auth_users_hash_cost",
            text("substr(password_hash, 5, 2)"),
            postgresql_where=text("password_hash <> '*'"),
            info={"comment": "The highest cost of a hash: what every sign-in costs."},
        ),
        {"comment": "Accounts: who may sign in, and how."},
    )

    uuid: Mapped[uuid_module.UUID] = mapped_column(
        UUID,
        server_default=text("gen_random_uuid()"),
        comment="The account's identity.",
        info=trail("recorded"),
    )
    email: Mapped[str] = mapped_column(
        String(255),
        comment="Address and sign-in name; unique, also ignoring case.",
        info=trail("recorded"),
    )
    password_hash: Mapped[str] = mapped_column(
        String(255),
        comment="bcrypt in the $2a$ form; * when the hash is kept encrypted.",
        deferred=True,
        info=trail("redacted"),
    )
    role: Mapped[UserRole] = mapped_column(
        Enum(UserRole, name="userrole", create_type=False),
        server_default=text("'user'"),
        comment="What the account may do; changed by an administrator only.",
        info=trail("recorded"),
    )
    is_active: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("true"),
        comment="False: no sign-in, no row security context.",
        info=trail("recorded", "INSERT", "UPDATE"),
    )
    is_verified: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="The e-mail was proven to be the user's.",
        info=trail("recorded", "INSERT", "UPDATE"),
    )
    is_configured: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="The user went through the first set-up.",
        info=trail("recorded", "INSERT", "UPDATE"),
    )
    verification_token: Mapped[str | None] = mapped_column(
        Text,
        comment="SHA-256 of the token sent to verify the e-mail.",
        deferred=True,
        info=trail("redacted"),
    )
    verification_expires: Mapped[datetime | None] = mapped_column(
        _MOMENT, comment="When the verification token expires.", info=trail("ignored")
    )
    reset_token: Mapped[str | None] = mapped_column(
        Text,
        comment="SHA-256 of the token sent to reset the password.",
        deferred=True,
        info=trail("redacted"),
    )
    reset_token_expiry: Mapped[datetime | None] = mapped_column(
        _MOMENT, comment="When the reset token expires.", info=trail("ignored")
    )
    refresh_token: Mapped[str | None] = mapped_column(
        Text,
        comment="SHA-256 of the token that opens a new session.",
        deferred=True,
        info=trail("redacted"),
    )
    refresh_token_expires: Mapped[datetime | None] = mapped_column(
        _MOMENT, comment="When the refresh token expires.", info=trail("ignored")
    )
    last_login_at: Mapped[datetime | None] = mapped_column(
        _MOMENT, comment="When the user last signed in.", info=trail("recorded", "UPDATE")
    )
    profile_uuid: Mapped[uuid_module.UUID | None] = mapped_column(
        UUID, comment="The user's profile.", info=trail("recorded")
    )
    created_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When the row was made.", info=trail("ignored")
    )
    updated_at: Mapped[datetime] = mapped_column(
        _MOMENT,
        server_default=_NOW,
        comment="When the row was last changed; set by a trigger.",
        info=trail("ignored"),
    )
    password_hash_encrypted: Mapped[bytes | None] = mapped_column(
        LargeBinary,
        comment="The bcrypt hash, encrypted with a key outside the database.",
        deferred=True,
        info=trail("redacted", name="password_hash"),
    )

    profile: Mapped[UserProfile | None] = relationship(back_populates="user")
    sessions: Mapped[list[Session]] = relationship(back_populates="user", passive_deletes="all")
    audit_logs: Mapped[list[AuditLog]] = relationship(
        primaryjoin="User.uuid == foreign(AuditLog.user_uuid)", viewonly=True
    )


class Session(Base):
    """An open session of a user."""

    __tablename__ = "sessions"
    __declared__ = Table(
        owner="pandom_owner",
        owned_by="user_uuid",
        allow=(
            *_ACCOUNTS,
            Allow("pandom_app", "SELECT", "own", READABLE),
            Allow("pandom_app", "DELETE", "own"),
            Allow("pandom_admin", "SELECT", "all", READABLE),
        ),
        trail="audit_sessions_trigger",
    )
    __table_args__ = (
        PrimaryKeyConstraint("id", name="pk_sessions", comment="One row per session."),
        UniqueConstraint("token", name="uq_sessions_token", comment="A token opens one."),
        ForeignKeyConstraint(
            ["user_uuid"],
            ["auth_users.uuid"],
            name="fk_sessions_user_uuid_auth_users",
            ondelete="CASCADE",
            comment="A deleted user's sessions go with it.",
        ),
        CheckConstraint(
            "token ~ '^[0-9a-f]{64}$'",
            name="ck_sessions_token",
            comment="Only a SHA-256 digest is stored, never a token.",
        ),
        CheckConstraint(
            "expires_at > created_at",
            name="ck_sessions_expires_at",
            comment="A session lasts for some time.",
        ),
        CheckConstraint(
            f"length(user_agent) <= {limits.USER_AGENT_CHARACTERS}",
            name="ck_sessions_user_agent",
            comment=f"A user agent has at most {limits.USER_AGENT_CHARACTERS} characters.",
        ),
        Index(
            "idx_sessions_user_expires",
            "user_uuid",
            "expires_at",
            info={"comment": "A user's sessions; also serves the foreign key."},
        ),
        Index(
            "idx_sessions_expires",
            "expires_at",
            info={"comment": "Finds what the janitor deletes."},
        ),
        {"comment": "Open sessions; tokens as digests only."},
    )

    id: Mapped[int] = mapped_column(
        BigInteger, Identity(), comment="The session's number.", info=trail("recorded")
    )
    user_uuid: Mapped[uuid_module.UUID] = mapped_column(
        UUID, comment="Whose session it is.", info=trail("recorded")
    )
    token: Mapped[str] = mapped_column(
        Text, comment="SHA-256 of the session token.", deferred=True, info=trail("redacted")
    )
    expires_at: Mapped[datetime] = mapped_column(
        _MOMENT, comment="When it ends by itself.", info=trail("recorded")
    )
    created_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When the row was made.", info=trail("ignored")
    )
    ip_address: Mapped[str | None] = mapped_column(
        INET, comment="The client's address, as the application stated it.", info=trail("ignored")
    )
    user_agent: Mapped[str | None] = mapped_column(
        Text,
        comment="The client's user agent, as the application stated it.",
        info=trail("ignored"),
    )

    user: Mapped[User] = relationship(back_populates="sessions")


class _TrailColumns:
    """The columns that the two tables of the trail share."""

    id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), comment="Number of the event; order of writing."
    )
    user_uuid: Mapped[uuid_module.UUID | None] = mapped_column(
        UUID, comment="Who acted; kept when the user is deleted, so no foreign key."
    )
    event_type: Mapped[str] = mapped_column(String(100), comment="What happened.")
    timestamp: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When the transaction began; the partition's key."
    )
    details: Mapped[dict[str, Any]] = mapped_column(
        JSONB, server_default=text("'{}'"), comment="What exactly: subject, table, changed columns."
    )
    ip_address: Mapped[str | None] = mapped_column(
        INET, comment="The client's address, as the application stated it."
    )
    user_agent: Mapped[str | None] = mapped_column(
        Text, comment="The client's user agent, as the application stated it."
    )
    severity: Mapped[str] = mapped_column(
        String(20), server_default=text("'info'"), comment="info, warning, error or critical."
    )
    epoch: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Epoch of the chain; a restore begins a new one."
    )
    tx: Mapped[int] = mapped_column(
        Xid8,
        server_default=text("pg_current_xact_id()"),
        comment="The transaction that wrote it; the chain's order.",
    )


def _trail_arguments(table: str, comment: str) -> tuple[Any, ...]:
    return (
        PrimaryKeyConstraint("id", "timestamp", name=f"pk_{table}", comment="One row per event."),
        CheckConstraint(
            "severity::text in ('info', 'warning', 'error', 'critical')",
            name=f"ck_{table}_severity",
            comment="The four severities.",
        ),
        CheckConstraint(
            f"jsonb_typeof(details) = 'object' and pg_column_size(details) <= {limits.EVENT_BYTES} "
            f"and octet_length(user_agent) <= {limits.USER_AGENT_BYTES}",
            name=f"ck_{table}_details",
            comment="Details are a JSON object of at most 1 MiB, the user agent has at most "
            f"{limits.USER_AGENT_BYTES} bytes.",
        ),
        Index(
            f"idx_{table}_user_time",
            "user_uuid",
            text("timestamp DESC"),
            info={"comment": "A user's newest events."},
        ),
        Index(
            f"idx_{table}_event_time",
            "event_type",
            "timestamp",
            info={"comment": "Events of a kind in a time: monitoring."},
        ),
        Index(
            f"idx_{table}_time",
            "timestamp",
            info={"comment": "Everything in a time: monitoring, export."},
        ),
        Index(
            f"idx_{table}_chain",
            "epoch",
            "tx",
            "id",
            info={"comment": "The order in which rows are sealed and verified."},
        ),
        {"comment": comment, "postgresql_partition_by": "RANGE (timestamp)"},
    )


class AuditLog(_TrailColumns, Base):
    """The audit trail."""

    __tablename__ = "audit_logs"
    __declared__ = _TRAIL
    __table_args__ = _trail_arguments(
        "audit_logs", "The audit trail: append-only, one partition per month."
    )


class SecurityLog(_TrailColumns, Base):
    """The trail of what concerns security."""

    __tablename__ = "security_logs"
    __declared__ = _TRAIL
    __table_args__ = _trail_arguments(
        "security_logs", "The trail of what concerns security: like audit_logs."
    )


class TrailRetention(Base):
    """How long each table of the trail is kept."""

    __tablename__ = "trail_retention"
    __declared__ = Table(
        owner="pandom_trail",
        allow=(Allow("pandom_auditor", "SELECT", "all"), Allow("pandom_user", "SELECT", "all")),
        open_rows="Two rows of settings, of nobody.",
    )
    __table_args__ = (
        PrimaryKeyConstraint("log", name="pk_trail_retention", comment="One row per table."),
        CheckConstraint(
            "log in ('audit_logs', 'security_logs')",
            name="ck_trail_retention_log",
            comment="The two tables of the trail.",
        ),
        CheckConstraint(
            "months >= 1 and months_ahead >= 1",
            name="ck_trail_retention_months",
            comment="At least a month is kept, and one is made ahead.",
        ),
        {"comment": "How many months the trail is kept; owned by pandom_trail."},
    )

    log: Mapped[str] = mapped_column(Text, comment="The table.")
    months: Mapped[int] = mapped_column(
        Integer, server_default=text("12"), comment="Whole months kept before a partition may go."
    )
    months_ahead: Mapped[int] = mapped_column(
        Integer, server_default=text("3"), comment="Months made ahead by the janitor."
    )


class TrailBlock(Base):
    """A sealed block of the trail; ``row_marks`` name rows, the hashes prove them."""

    __tablename__ = "trail_blocks"
    __declared__ = Table(
        owner="pandom_trail",
        allow=(Allow("pandom_auditor", "SELECT", "all"), Allow("pandom_user", "SELECT", "all")),
    )
    __table_args__ = (
        PrimaryKeyConstraint(
            "log", "number", name="pk_trail_blocks", comment="One block a place in a chain."
        ),
        UniqueConstraint(
            "log",
            "previous_hash",
            name="uq_trail_blocks_previous",
            comment="A chain does not fork.",
        ),
        CheckConstraint(
            "log in ('audit_logs', 'security_logs')",
            name="ck_trail_blocks_log",
            comment="The two tables of the trail.",
        ),
        CheckConstraint(
            "number >= 1 and row_count >= 1",
            name="ck_trail_blocks_number",
            comment="Places count from 1, and no block is empty.",
        ),
        CheckConstraint(
            "octet_length(rows_digest) = 32 and octet_length(previous_hash) = 32 "
            "and octet_length(hash) = 32 and octet_length(row_marks) = 16 * row_count",
            name="ck_trail_blocks_hashes",
            comment="Hashes are SHA-256; a mark has 16 bytes.",
        ),
        {"comment": "Sealed blocks of the trail, a hash chain for each table: append-only."},
    )

    log: Mapped[str] = mapped_column(Text, comment="audit_logs or security_logs.")
    number: Mapped[int] = mapped_column(
        BigInteger,
        autoincrement=False,
        comment="The block's place in its chain, from 1 without a gap.",
    )
    month: Mapped[date] = mapped_column(
        Date,
        comment="The month (UTC) of all of its rows, so that a month can be archived with its "
        "blocks.",
    )
    first_epoch: Mapped[int] = mapped_column(Integer, comment="Epoch of the first row.")
    first_tx: Mapped[int] = mapped_column(Xid8, comment="Transaction of the first row.")
    first_id: Mapped[int] = mapped_column(BigInteger, comment="Number of the first row.")
    last_epoch: Mapped[int] = mapped_column(Integer, comment="Epoch of the last row.")
    last_tx: Mapped[int] = mapped_column(Xid8, comment="Transaction of the last row.")
    last_id: Mapped[int] = mapped_column(BigInteger, comment="Number of the last row.")
    row_count: Mapped[int] = mapped_column(Integer, comment="How many rows it seals.")
    rows_digest: Mapped[bytes] = mapped_column(
        LargeBinary,
        comment="SHA-256 over the binary form of its rows in the order (epoch, tx, id).",
    )
    row_marks: Mapped[bytes] = mapped_column(
        LargeBinary,
        # Not compressed: trying took a quarter of the sealer's time, and hashes hardly compress.
        info={"storage": "external"},
        comment="For each row its id and a short hash: names the row when the digest is wrong; "
        "no proof.",
    )
    previous_hash: Mapped[bytes] = mapped_column(
        LargeBinary, comment="The hash of the block before; 32 zero bytes in the first."
    )
    hash: Mapped[bytes] = mapped_column(
        LargeBinary, comment="SHA-256 over the block's columns and previous_hash."
    )
    sealed_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When it was sealed."
    )


def _duration(default: str, comment: str) -> Mapped[timedelta]:
    return mapped_column(Interval, server_default=text(f"'{default}'"), comment=comment)


def _number(default: int, comment: str) -> Mapped[int]:
    return mapped_column(Integer, server_default=text(str(default)), comment=comment)


def _the_only_row() -> Mapped[bool]:
    return mapped_column(Boolean, server_default=text("true"), comment="Always true: one row.")


class AccountSettings(Base):
    """Settings of the account functions."""

    __tablename__ = "account_settings"
    __declared__ = Table(
        owner="pandom_owner",
        allow=tuple(
            Allow(role, "SELECT", "all")
            for role in ("pandom_definer", "pandom_trail", "pandom_auditor")
        ),
        open_rows="One row of settings, of nobody.",
    )
    __table_args__ = (
        PrimaryKeyConstraint("only_row", name="pk_account_settings", comment="One row."),
        CheckConstraint(
            "only_row", name="ck_account_settings_only_row", comment="There is one row."
        ),
        CheckConstraint(
            "bcrypt_cost between 4 and 16",
            name="ck_account_settings_bcrypt_cost",
            comment="What bcrypt allows, and a sign-in can bear.",
        ),
        CheckConstraint(
            "failures_before_lock > 0 and failures_before_slow >= failures_before_lock "
            "and suspicious_events_per_hour > 0 and session_lifetime > interval '0' "
            "and refresh_lifetime > interval '0' and verification_lifetime > interval '0' "
            "and reset_lifetime > interval '0' and lock_base > interval '0' "
            "and lock_limit >= lock_base and slow_interval > interval '0'",
            name="ck_account_settings_positive",
            comment="Durations and thresholds that make sense.",
        ),
        CheckConstraint(
            "event_window >= interval '1 second' and event_window <= interval '1 day' "
            "and request_window >= interval '1 second' and request_window <= interval '1 day' "
            "and message_window >= interval '1 second' and message_window <= interval '1 day' "
            "and transaction_limit >= interval '1 minute' "
            "and least(events_per_user, events_per_address, events_per_second, "
            "registrations_per_address, registrations_per_server, resets_per_address, "
            "resets_per_server, verifications_per_address, verifications_per_server, "
            "refreshes_per_user, messages_per_mailbox) >= 0",
            name="ck_account_settings_rates",
            comment="Rates that make sense: 0 is no limit, no window is longer than a day.",
        ),
        {"comment": "Settings of the account functions and the monitoring views; one row."},
    )

    only_row: Mapped[bool] = _the_only_row()
    bcrypt_cost: Mapped[int] = _number(12, "Cost of new hashes: 12 is some 200 ms of CPU.")
    session_lifetime: Mapped[timedelta] = _duration("12:00:00", "How long a session lasts.")
    refresh_lifetime: Mapped[timedelta] = _duration("30 days", "How long a refresh token lasts.")
    verification_lifetime: Mapped[timedelta] = _duration(
        "24:00:00", "How long a verification token lasts."
    )
    reset_lifetime: Mapped[timedelta] = _duration("01:00:00", "How long a reset token lasts.")
    failures_before_lock: Mapped[int] = _number(
        5, "Failed sign-ins by one address before it has to wait."
    )
    lock_base: Mapped[timedelta] = _duration("00:00:30", "The first wait; doubles each time.")
    lock_limit: Mapped[timedelta] = _duration("00:15:00", "The longest wait.")
    failures_before_slow: Mapped[int] = _number(
        50, "Failed sign-ins by all addresses in a day before unknown ones are slowed down."
    )
    slow_interval: Mapped[timedelta] = _duration("00:00:30", "Time between slowed-down attempts.")
    encrypt_password_hash: Mapped[bool] = mapped_column(
        Boolean, server_default=text("false"), comment="Whether hashes are stored encrypted."
    )
    suspicious_events_per_hour: Mapped[int] = _number(
        100, "More events of a user in an hour are suspicious."
    )
    event_window: Mapped[timedelta] = _duration(
        "00:01:00", "In which events of one user or address are counted."
    )
    events_per_user: Mapped[int] = _number(
        120, "Events that one user may record within event_window."
    )
    events_per_address: Mapped[int] = _number(
        120, "Events that one address may record without a user within event_window."
    )
    events_per_second: Mapped[int] = _number(
        500, "Events that applications may record on the whole server in a second."
    )
    request_window: Mapped[timedelta] = _duration(
        "00:10:00", "In which registrations, resets, verifications and refreshes are counted."
    )
    registrations_per_address: Mapped[int] = _number(20, "Within request_window.")
    registrations_per_server: Mapped[int] = _number(300, "Within request_window; no sign-ins.")
    resets_per_address: Mapped[int] = _number(20, "Password resets within request_window.")
    resets_per_server: Mapped[int] = _number(600, "Password resets within request_window.")
    verifications_per_address: Mapped[int] = _number(
        60, "Tokens of mails that one address may try within request_window."
    )
    verifications_per_server: Mapped[int] = _number(1000, "Within request_window.")
    refreshes_per_user: Mapped[int] = _number(
        60, "New sessions by refresh token that one user may open within request_window."
    )
    message_window: Mapped[timedelta] = _duration(
        "01:00:00", "In which messages to one mailbox are counted."
    )
    messages_per_mailbox: Mapped[int] = _number(
        5, "Messages of one kind that a mailbox gets within message_window."
    )
    transaction_limit: Mapped[timedelta] = _duration(
        "00:10:00", "How long a client's transaction may be open before its session is ended."
    )
    administrator: Mapped[str | None] = mapped_column(
        Text,
        comment="SHA-256 of the e-mail that the stack gave its administrator; null: of none yet.",
    )


class Outbox(Base):
    """Messages that the mailer sends; the only place of a token in clear."""

    __tablename__ = "outbox"
    __declared__ = _FUNCTIONS_ONLY
    __table_args__ = (
        PrimaryKeyConstraint("id", name="pk_outbox", comment="One row per message."),
        CheckConstraint(
            "kind::text in ('verify_email', 'already_registered', 'reset_password', "
            "'confirm_new_email', 'email_changed', 'password_changed')",
            name="ck_outbox_kind",
            comment="The kinds of messages that the mailer knows.",
        ),
        Index(
            "idx_outbox_expires", "expires_at", info={"comment": "Finds what the janitor deletes."}
        ),
        Index(
            "idx_outbox_mailbox",
            text("lower(email)"),
            "kind",
            info={"comment": "Finds the older message that a new one replaces."},
        ),
        {"comment": "Outgoing messages with tokens in clear; for pandom_mailer."},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), comment="Its number.")
    kind: Mapped[str] = mapped_column(String(40), comment="Which message.")
    email: Mapped[str] = mapped_column(String(255), comment="To whom.")
    token: Mapped[str | None] = mapped_column(Text, comment="The token in clear, if it has one.")
    created_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When it was put here."
    )
    expires_at: Mapped[datetime] = mapped_column(_MOMENT, comment="When it is worthless.")
    claimed_until: Mapped[datetime | None] = mapped_column(
        _MOMENT, comment="Until when a mailer is busy with it."
    )


class EmailChange(Base):
    """A new e-mail that waits for its token."""

    __tablename__ = "email_changes"
    __declared__ = _FUNCTIONS_ONLY
    __table_args__ = (
        PrimaryKeyConstraint("user_uuid", name="pk_email_changes", comment="One per user."),
        UniqueConstraint("token", name="uq_email_changes_token", comment="One per token."),
        ForeignKeyConstraint(
            ["user_uuid"],
            ["auth_users.uuid"],
            name="fk_email_changes_user_uuid_auth_users",
            ondelete="CASCADE",
            comment="Goes with its user.",
        ),
        CheckConstraint(
            "token ~ '^[0-9a-f]{64}$'",
            name="ck_email_changes_token",
            comment="Only a SHA-256 digest is stored.",
        ),
        {"comment": "New e-mails that wait for their token."},
    )

    user_uuid: Mapped[uuid_module.UUID] = mapped_column(UUID, comment="Whose e-mail.")
    new_email: Mapped[str] = mapped_column(String(255), comment="The new e-mail.")
    token: Mapped[str] = mapped_column(Text, comment="SHA-256 of the token sent there.")
    expires_at: Mapped[datetime] = mapped_column(_MOMENT, comment="When the token expires.")


class SignInAttempt(Base):
    """Failed and successful sign-ins per e-mail and address."""

    __tablename__ = "sign_in_attempts"
    __declared__ = _FUNCTIONS_ONLY
    __table_args__ = (
        PrimaryKeyConstraint(
            "email_digest",
            "address",
            name="pk_sign_in_attempts",
            comment="One row per e-mail and address.",
        ),
        {"comment": "Failed sign-ins per e-mail and address, to limit guessing."},
    )

    email_digest: Mapped[bytes] = mapped_column(
        LargeBinary, comment="SHA-256 of the e-mail in lower case, existing or not."
    )
    address: Mapped[str] = mapped_column(INET, comment="The client's address; 0.0.0.0: none.")
    failures: Mapped[int] = _number(0, "Failures since the last success.")
    last_failed_at: Mapped[datetime | None] = mapped_column(_MOMENT, comment="The last failure.")
    last_succeeded_at: Mapped[datetime | None] = mapped_column(
        _MOMENT, comment="The last success; such an address is not slowed down by strangers."
    )


class RecentCall(Base):
    """Calls of the last minutes that count towards a rate."""

    __tablename__ = "recent_calls"
    __declared__ = _FUNCTIONS_ONLY
    __table_args__ = (
        PrimaryKeyConstraint(
            "kind",
            "caller",
            "called_at",
            "id",
            name="pk_recent_calls",
            comment="One row per call; counts the calls of one caller.",
        ),
        Index(
            "idx_recent_calls_kind",
            "kind",
            "called_at",
            info={"comment": "Counts the calls on the whole server."},
        ),
        {
            "comment": "Calls that count towards a rate: unlogged, empty after a crash.",
            "prefixes": ["UNLOGGED"],
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), comment="Its number.")
    kind: Mapped[str] = mapped_column(Text, comment="What was called.")
    caller: Mapped[str] = mapped_column(
        Text, comment="A user, an address, a mailbox; or that no address was stated."
    )
    called_at: Mapped[datetime] = mapped_column(_MOMENT, comment="When.")


class ContextKey(Base):
    """The key that signs contexts."""

    __tablename__ = "context_key"
    # The auditor reads whether contexts must be signed; only a dump reads the key.
    __declared__ = Table(
        owner="pandom_definer",
        allow=(
            Allow("pandom_auditor", "SELECT", "all", ("enforced",)),
            Allow("pandom_user", "SELECT", "all"),
        ),
        open_rows="One row; its grant is for the column that says whether contexts must be signed.",
    )
    __table_args__ = (
        PrimaryKeyConstraint("only_row", name="pk_context_key", comment="One row."),
        CheckConstraint("only_row", name="ck_context_key_only_row", comment="There is one."),
        CheckConstraint(
            "octet_length(secret) = 32", name="ck_context_key_secret", comment="256 bits."
        ),
        {"comment": "The key that signs contexts, and whether only signed ones count."},
    )

    only_row: Mapped[bool] = _the_only_row()
    secret: Mapped[bytes] = mapped_column(LargeBinary, comment="256 random bits.")
    enforced: Mapped[bool] = mapped_column(
        Boolean, server_default=text("false"), comment="Whether only signed contexts count."
    )
    created_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, comment="When the key was made."
    )


def mappers() -> list[Mapper[Any]]:
    """Return the models by the names of their tables; SQLAlchemy keeps them in a set."""
    return sorted(Base.registry.mappers, key=lambda one: one.class_.__tablename__)
