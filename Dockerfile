# ckaprobe on the CPU, or with a base image that has PyTorch for CUDA:
#
#     docker build --tag ckaprobe .
#     docker build --tag ckaprobe:cuda --build-arg BASE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime .
#     docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" ckaprobe compare a.pth b.pth --data images --out a_b
#
# Add `--gpus all` to run the second.
ARG BASE=python:3.12-slim
FROM ${BASE}
WORKDIR /opt/ckaprobe
COPY pyproject.toml README.md LICENSE ./
COPY cka_probe cka_probe
COPY ckaprobe_cli ckaprobe_cli
# The index has PyTorch without CUDA; a base image that has PyTorch keeps its own.
RUN python -m pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu .
# Any user may run it: what it caches goes to a folder that all can write to.
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["ckaprobe"]
CMD ["--help"]
