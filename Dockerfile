# Untried: no container engine was at hand. docker build -t ad . && docker run --rm ad
FROM python:3.11-bookworm
WORKDIR /ad
# What is committed and nothing else: no environment, images or results of this machine.
COPY .git .git
RUN git reset --quiet --hard && make inputs
CMD ["make", "repro", "test"]
