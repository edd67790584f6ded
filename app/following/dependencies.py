"""How an endpoint gets at the feed of its process."""

from typing import Annotated

from fastapi import Depends, Request

from app.following.feed import Feed


async def _feed_of(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


FeedOfProcess = Annotated[Feed, Depends(_feed_of)]
